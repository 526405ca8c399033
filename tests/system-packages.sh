#!/bin/sh
# What the tests need besides Python packages: a browser for the report. Installed where the package manager is at hand.
set -eu
command -v chromium >/dev/null 2>&1 && exit 0
if [ "$(id -u)" = 0 ] && command -v apt-get >/dev/null 2>&1; then
    apt-get update -qq
    DEBIAN_FRONTEND=noninteractive apt-get install -y -qq chromium >/dev/null
else
    echo "No chromium: the browser tests will say that they were skipped." >&2
fi
