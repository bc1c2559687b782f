#!/usr/bin/env bash
# fetch-debian.sh [PACKAGE...]: unpacks Debian packages into .cache/debian, without root and without installing them.
set -euo pipefail
cd "$(dirname "$0")/.."
[ "$#" -gt 0 ] || set -- zookeeper clickhouse-server clickhouse-common prometheus prometheus-alertmanager
folder=$PWD/.cache/debian
mkdir -p "$folder/packages"
command -v apt-get > /dev/null && command -v dpkg > /dev/null || { echo 'no apt-get or dpkg: Debian packages are not fetched' >&2; exit 0; }
for package in "$@"; do
    [ ! -e "$folder/packages/$package" ] || continue
    (cd "$folder/packages" && apt-get download --quiet --quiet "$package" && dpkg -x "$package"_*.deb "$folder" && rm "$package"_*.deb) 2> "$folder/$package.log" \
        || { cat "$folder/$package.log" >&2; exit 1; }
    touch "$folder/packages/$package"
done
