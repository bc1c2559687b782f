#!/usr/bin/env bash
# fetch-debian.sh [PACKAGE...]: unpacks Debian packages into .cache/debian, without root and without installing them. The package
# lists are apt's own, kept in the same folder, so that neither root nor an earlier `apt-get update` is needed.
set -euo pipefail
cd "$(dirname "$0")/.."
# What clickhouse-server links against, beside what every Debian has.
libraries=(libboost-filesystem1.74.0 libboost-program-options1.74.0 libcapnp-0.9.2 libcctz2 libcpuinfo0 libdouble-conversion3
    libfarmhash0 libjemalloc2 libltdl7 libmariadb3 libmetrohash1 libodbc2 libpcre3 libpococrypto80 libpocodata80
    libpocodataodbc80 libpocofoundation80 libpocojson80 libpocomongodb80 libpoconet80 libpoconetssl80 libpocoutil80
    libpocoxml80 librdkafka1 libre2-9)
# ZooKeeper and the Java libraries that its server needs; `java` itself has to be there.
zookeeper=(zookeeper libzookeeper-java libnetty-java libslf4j-java libdropwizard-metrics-java libsnappy-java)
[ "$#" -gt 0 ] || set -- "${zookeeper[@]}" clickhouse-server clickhouse-common "${libraries[@]}" prometheus prometheus-alertmanager
folder=$PWD/.cache/debian
mkdir -p "$folder/packages" "$folder/apt/lists/partial" "$folder/apt/cache/archives/partial"
command -v apt-get > /dev/null && command -v dpkg > /dev/null || { echo 'no apt-get or dpkg: Debian packages are not fetched' >&2; exit 0; }
apt() { apt-get --quiet --quiet -o APT::Sandbox::User="$(id -un)" -o Dir::State::lists="$folder/apt/lists" -o Dir::Cache="$folder/apt/cache" "$@"; }

missing=()
for package in "$@"; do
    [ -e "$folder/packages/$package" ] || missing+=("$package")
done
[ ${#missing[@]} -gt 0 ] || exit 0
if [ -z "$(find "$folder/apt/lists" -maxdepth 1 -type f -size +0 -mtime -1 -name '*Packages*' 2> /dev/null)" ]; then
    apt update
fi
for package in "${missing[@]}"; do
    (
        cd "$folder/packages"
        apt download "$package"
        dpkg -x "$package"_*.deb "$folder"
        rm "$package"_*.deb
        touch "$package"
    )
done
