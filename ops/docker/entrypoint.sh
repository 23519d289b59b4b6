#!/bin/sh
# Runs `penstock` with these arguments, in this process, so that it gets the signals.
#
# With the profile `simulate` of docker-compose.yml there is a simulated upstream in the network, and
# then it answers. The name is one that no other network has: `.internal` is never delegated.
set -eu

simulator=simulator.penstock.internal
if [ -z "${PENSTOCK_UPSTREAM_URL:-}" ] && getent hosts "$simulator" > /dev/null; then
    PENSTOCK_UPSTREAM_URL=http://$simulator:8090/v1/openai
    export PENSTOCK_UPSTREAM_URL
fi
exec penstock "$@"
