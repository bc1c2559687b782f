#!/usr/bin/env bash
# python-env.sh NAME: a virtual environment in .cache/python/NAME with tests/production/requirements/NAME.txt; prints its folder.
# Python 3.10 to 3.12; PYTHON names the interpreter.
set -euo pipefail
cd "$(dirname "$0")/.."
name=$1
wanted=tests/production/requirements/$name.txt
folder=$PWD/.cache/python/$name
if ! cmp -s "$wanted" "$folder/requirements.txt"; then
    mkdir -p "$(dirname "$folder")"
    "${PYTHON:-python3}" -m venv "$folder" >&2
    "$folder/bin/python" -m pip install --quiet --disable-pip-version-check --requirement "$wanted" >&2
    cp "$wanted" "$folder/requirements.txt"
fi
echo "$folder"
