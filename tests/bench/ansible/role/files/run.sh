#!/bin/sh
# Starts the application with its configuration.
set -eu
cd "$(dirname "$0")/.."
exec sleep "${1:-0}"
