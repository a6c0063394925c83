#!/bin/sh
echo "script: $@ in $(pwd)"
echo err >&2
exit ${1:-0}
