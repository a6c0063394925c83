#!/bin/sh
echo from a script
echo and an error >&2
