#!/bin/sh
# Starts Grafana, but not without a password: its own default is known to everyone.
set -eu
if [ -z "${GF_SECURITY_ADMIN_PASSWORD:-}" ]; then
    echo "GRAFANA_PASSWORD is not set: fill it in in .env, then docker compose up again" >&2
    exit 1
fi
exec /run.sh "$@"
