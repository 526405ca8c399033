#!/bin/sh
# An environment of their own for MLServer and MLflow, in .venv-servers; made again when a version changes.
set -eu
cd "$(dirname "$0")/../.."
made=.venv-servers/.made
wanted=$(cat constraints.txt tests/servers/requirements.txt pyproject.toml | cksum)
[ -f "$made" ] && [ "$(cat "$made")" = "$wanted" ] && exit 0
rm -rf .venv-servers
"${PYTHON:-python3}" -m venv .venv-servers
# A version that these servers pin wins over the product's: MLServer needs an older protobuf and an older Starlette.
sed -n 's/^\([A-Za-z0-9_.-]*\)==.*/^\1==/p' tests/servers/requirements.txt >.venv-servers/pinned
grep -v -i -f .venv-servers/pinned constraints.txt >.venv-servers/constraints.txt
.venv-servers/bin/pip install --quiet --disable-pip-version-check --no-compile --no-deps \
    --constraint .venv-servers/constraints.txt --requirement tests/servers/requirements.txt --editable .
printf '%s' "$wanted" >"$made"
