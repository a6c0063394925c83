#!/bin/sh
echo "$#: $*"
echo low >&2
