#!/bin/sh
# An environment of its own, .venv-NAME, for tests/NAME/requirements.txt; made again when a version changes. What follows NAME goes to pip.
set -eu
name=$1
shift
cd "$(dirname "$0")/.."
listed=tests/$name/requirements.txt
made=.venv-$name/.made
wanted=$(cat constraints.txt "$listed" pyproject.toml | cksum)
[ -f "$made" ] && [ "$(cat "$made")" = "$wanted" ] && exit 0
rm -rf ".venv-$name"
"${PYTHON:-python3}" -m venv ".venv-$name"
# A version that is pinned here wins over the product's: MLServer needs an older protobuf and Starlette, BentoML a newer certifi.
sed -n 's/^\([A-Za-z0-9_.-]*\)==.*/^\1==/p' "$listed" >".venv-$name/pinned"
grep -v -i -f ".venv-$name/pinned" constraints.txt >".venv-$name/constraints.txt"
# Most modules are never imported, so each is compiled when it is.
".venv-$name/bin/pip" install --quiet --disable-pip-version-check --no-compile "$@" \
    --constraint ".venv-$name/constraints.txt" --requirement "$listed" --editable .
printf '%s' "$wanted" >"$made"
