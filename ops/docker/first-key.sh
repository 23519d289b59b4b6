#!/bin/sh
# Makes the first API key of the gateway, which serves nobody beyond its own machine without one.
#
#     first-key.sh FILE    where the key is kept, for the operator to read
set -eu
umask 077

if [ -z "$(penstock keys list --json)" ]; then
    penstock keys create --note "made at the first start" > "$1"
fi
