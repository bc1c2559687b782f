#!/usr/bin/env bash
# python-env.sh NAME: a virtual environment in .cache/python/NAME with tests/production/requirements/NAME.txt; prints its folder.
# Python 3.10 to 3.12; PYTHON names the interpreter. uv installs what takes pip minutes in seconds; pip, where uv cannot.
set -euo pipefail
cd "$(dirname "$0")/.."
name=$1
wanted=tests/production/requirements/$name.txt
root=$PWD/.cache/python
folder=$root/$name
if cmp -s "$wanted" "$folder/requirements.txt"; then
    echo "$folder"
    exit 0
fi
mkdir -p "$root"
# Two tests may ask for the same environment at once.
exec 9> "$root/lock"
flock 9
if ! cmp -s "$wanted" "$folder/requirements.txt"; then
    python=${PYTHON:-python3}
    if [ ! -x "$root/uv/bin/uv" ]; then
        "$python" -m venv --clear "$root/uv" >&2
        "$root/uv/bin/python" -m pip install --quiet --disable-pip-version-check uv==0.13.9 >&2 || true
    fi
    "$python" -m venv --clear "$folder" >&2
    # Hard links need the cache on the same file system, so it is kept here.
    if ! UV_CACHE_DIR=$root/uv/cache UV_HTTP_TIMEOUT=180 \
        "$root/uv/bin/uv" pip install --quiet --python "$folder/bin/python" --requirement "$wanted" >&2; then
        "$folder/bin/python" -m pip install --quiet --disable-pip-version-check --requirement "$wanted" >&2
    fi
    cp "$wanted" "$folder/requirements.txt"
fi
echo "$folder"
