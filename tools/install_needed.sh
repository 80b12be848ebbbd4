#!/bin/bash
# install_needed.sh PROGRAM... -- PACKAGE...: makes a Debian image's root file system run
# the programs, in one layer. Installs the packages, then deletes what no program loads of
# the libraries that they brought (dpkg goes on naming these, as it does the documents that
# a slim image leaves out), and what differs from one time to the next. Fails if a program
# misses a library.
set -euo pipefail
programs=()
while [[ $1 != -- ]]; do programs+=("$1"); shift; done
shift

installed() { dpkg-query -W -f '${Package}\n' | sort; }
installed >/tmp/before
apt-get update -q
DEBIAN_FRONTEND=noninteractive apt-get install -qy --no-install-recommends "$@"

ldd "${programs[@]}" >/tmp/loaded
if grep 'not found' /tmp/loaded; then exit 1; fi
awk '$2 == "=>" {print $3}' /tmp/loaded | xargs realpath | sort -u >/tmp/needed
installed | comm -13 /tmp/before - | xargs dpkg-query -L | sort -u | grep -E '\.so($|\.)' |
  while read -r library; do
    if ! grep -qxF "$(realpath "$library")" /tmp/needed; then rm "$library"; fi
  done
ldconfig
rm -rf /tmp/before /tmp/loaded /tmp/needed /var/lib/apt/lists/* /var/cache/apt/* /var/cache/ldconfig/aux-cache \
  /var/cache/debconf/*-old /var/lib/dpkg/*-old /var/log/apt /var/log/*.log
