#!/bin/sh
# What the tests need besides Python packages: a browser for the report, openssl for a certificate, the OpenMP library that LightGBM
# loads, Redis for guards with several workers, promtool (in Debian's prometheus) for the alert rules, and jq
# for what gh does in a job of CI.
# Installed where the package manager is at hand. `few` is what `make test` needs: the OpenMP library.
set -eu
wanted=""
if [ "${1:-all}" = all ]; then
    command -v chromium >/dev/null 2>&1 || wanted="chromium"
    command -v openssl >/dev/null 2>&1 || wanted="$wanted openssl"
    command -v redis-server >/dev/null 2>&1 || wanted="$wanted redis-server"
    command -v jq >/dev/null 2>&1 || wanted="$wanted jq"
    command -v promtool >/dev/null 2>&1 || wanted="$wanted prometheus"
fi
ldconfig -p 2>/dev/null | grep -q "libgomp\.so\.1" || wanted="$wanted libgomp1"
[ -n "$wanted" ] || exit 0
if [ "$(id -u)" = 0 ] && command -v apt-get >/dev/null 2>&1; then
    apt-get update -qq
    # shellcheck disable=SC2086
    DEBIAN_FRONTEND=noninteractive apt-get install -y -qq $wanted >/dev/null
else
    echo "Missing $wanted: the tests that need it will say so." >&2
fi
