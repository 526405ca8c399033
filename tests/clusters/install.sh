#!/bin/sh
# An environment of their own for Dask and Ray, in .venv-clusters; made again when a version changes.
set -eu
cd "$(dirname "$0")/../.."
made=.venv-clusters/.made
wanted=$(cat constraints.txt tests/clusters/requirements.txt pyproject.toml | cksum)
[ -f "$made" ] && [ "$(cat "$made")" = "$wanted" ] && exit 0
rm -rf .venv-clusters
"${PYTHON:-python3}" -m venv .venv-clusters
.venv-clusters/bin/pip install --quiet --disable-pip-version-check \
    --constraint constraints.txt --requirement tests/clusters/requirements.txt --editable .
printf '%s' "$wanted" >"$made"
