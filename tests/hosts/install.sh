#!/bin/sh
# An environment of their own for FastAPI, LitServe, BentoML and Ray Serve, in .venv-hosts; made again when a version changes.
set -eu
cd "$(dirname "$0")/../.."
made=.venv-hosts/.made
wanted=$(cat constraints.txt tests/hosts/requirements.txt pyproject.toml | cksum)
[ -f "$made" ] && [ "$(cat "$made")" = "$wanted" ] && exit 0
rm -rf .venv-hosts
"${PYTHON:-python3}" -m venv .venv-hosts
# A version that these pin wins over the product's: BentoML needs a newer certifi.
sed -n 's/^\([A-Za-z0-9_.-]*\)==.*/^\1==/p' tests/hosts/requirements.txt >.venv-hosts/pinned
grep -v -i -f .venv-hosts/pinned constraints.txt >.venv-hosts/constraints.txt
.venv-hosts/bin/pip install --quiet --disable-pip-version-check --no-compile --no-deps \
    --constraint .venv-hosts/constraints.txt --requirement tests/hosts/requirements.txt --editable .
# Ray gives its processes 30 seconds to start.
.venv-hosts/bin/python -m compileall -q -x 'ray/(rllib|tune|train|data)/' .venv-hosts/lib/python*/site-packages/ray
printf '%s' "$wanted" >"$made"
