#!/bin/sh
# Starts Prometheus. It takes credentials from files only, so what .env has goes into two files that no one else reads.
# They are written empty where Basic auth is off: the backend does not look at credentials then.
set -eu
umask 077
printf '%s' "${BASIC_AUTH_USER:-}" >"${TMPDIR:-/tmp}/basic_auth_user"
printf '%s' "${BASIC_AUTH_PASS:-}" >"${TMPDIR:-/tmp}/basic_auth_pass"
exec prometheus "$@"
