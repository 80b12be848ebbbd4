#!/usr/bin/env bash
# image.sh [ARG...]: the container image of the Dockerfile, as ounce:VERSION and ounce:latest and as
# an archive that `docker load` takes, in build/image. Built by Docker or Podman if one of
# them runs here, else by buildah; on debian:bookworm-slim, or where no registry is reached
# on the same made from Debian's packages. ARGs are for the engine's `build`. ./run image
# calls it.
#
# The same revision, base and Debian packages give the same archive, byte for byte, by
# buildah and Podman: all times are SOURCE_DATE_EPOCH, or else the commit's.
set -euo pipefail
cd "$(dirname "${BASH_SOURCE[0]}")/.."
source tools/setup.sh

version=$(sed -n 's/^project(ounce VERSION \([0-9.]*\) .*/\1/p' CMakeLists.txt)
revision=$(git describe --always --dirty --abbrev=40 --exclude '*')
epoch=${SOURCE_DATE_EPOCH:-$(git log -1 --format=%ct)}
archive=build/image/ounce-$version.tar

if docker info >/dev/null 2>&1; then
  engine=(docker)
elif podman info >/dev/null 2>&1; then
  engine=(podman)
else
  install_packages buildah
  # chroot does without a runtime of containers.
  engine=(as_root env "BUILDAH_ISOLATION=${BUILDAH_ISOLATION:-chroot}" buildah)
fi
engine_name=${engine[-1]}

# make_base TAR: what debian:bookworm-slim has: Debian's essential packages and apt, with
# the updates of today, without documents and translations.
make_base() {
  local options=() path
  for path in doc groff info lintian locale man; do
    options+=("--dpkgopt=path-exclude=/usr/share/$path/*")
  done
  options+=('--dpkgopt=path-include=/usr/share/doc/*/copyright')
  install_packages mmdebstrap
  # Some date, the same always: it becomes that of the passwords' last change, too.
  as_root env SOURCE_DATE_EPOCH=1672531200 mmdebstrap --quiet --variant=minbase \
    --hook-dir=/usr/share/mmdebstrap/hooks/merged-usr "${options[@]}" bookworm - 2>"$1.log" |
    mmtarfilter '--path-exclude=/dev/*' --path-exclude=/etc/hostname --path-exclude=/etc/resolv.conf \
      >"$1.new" || { cat "$1.log" >&2; return 1; }
  mv "$1.new" "$1"
}

# Sets `base` to the base's name in the engine's store.
find_base() {
  base=debian:bookworm-slim
  if "${engine[@]}" pull --quiet "$base" >build/image/pull.log 2>&1; then return; fi
  base=localhost/ounce-base:bookworm
  local tar
  tar=$(deps_folder)/bookworm-slim.tar
  mkdir -p "$(deps_folder)"
  if [[ -z $(find "$tar" -mtime -1 2>/dev/null) ]]; then
    echo "== no registry gives debian:bookworm-slim; making it from Debian's packages"
    make_base "$tar"
  elif "${engine[@]}" inspect --type image "$base" >/dev/null 2>&1; then
    return
  fi
  local path=PATH=/usr/local/sbin:/usr/local/bin:/usr/sbin:/usr/bin:/sbin:/bin
  if [[ $engine_name != buildah ]]; then
    "${engine[@]}" import --change "ENV $path" "$tar" "$base" >/dev/null
    return
  fi
  local container
  container=$("${engine[@]}" from scratch)
  "${engine[@]}" add --quiet "$container" "$tar" / >/dev/null
  "${engine[@]}" config --env "$path" "$container"
  "${engine[@]}" commit --quiet --rm --format docker --timestamp 1672531200 "$container" "$base" >/dev/null
}

mkdir -p build/image
find_base
echo "== ounce:$version by $engine_name on $base"
arguments=(
  --build-arg "BASE=$base" --build-arg "SOURCE_DATE_EPOCH=$epoch"
  --build-arg "CMAKE_BUILD_PARALLEL_LEVEL=${OUNCE_JOBS:-$(nproc)}"
  --label "org.opencontainers.image.version=$version"
  --label "org.opencontainers.image.revision=$revision"
  --label "org.opencontainers.image.created=$(date -u -d "@$epoch" +%FT%TZ)"
  -t "ounce:$version" -t ounce:latest
)
# OCI's own form of an image has no HEALTHCHECK.
if [[ $engine_name != docker ]]; then arguments+=(--format docker --timestamp "$epoch"); fi
"${engine[@]}" build "${arguments[@]}" "$@" .

rm -f "$archive"
if [[ $engine_name == buildah ]]; then
  "${engine[@]}" push --quiet "ounce:$version" "docker-archive:$archive:ounce:$version"
else
  "${engine[@]}" save -o "$archive" "ounce:$version"
fi
python3 tools/image_archive.py "$archive"
