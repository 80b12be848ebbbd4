#!/usr/bin/env bash
# make_wheel.sh PYTHON STAGE OUT: the wheel of client/python, in OUT. PYTHON has pip,
# setuptools and grpcio-tools. STAGE, a folder of its own, is replaced: the package with
# what is made for it.
set -euo pipefail
cd "$(dirname "${BASH_SOURCE[0]}")/.."
python=$1 stage=$2 out=$3
protos=(ounce/v1/inference.proto ounce/v1/model_admin.proto)

rm -rf "$stage"
mkdir -p "$stage" "$out"
cp -r client/python/. "$stage"
cp LICENSE "$stage"
sed -n 's/^project(ounce VERSION \([0-9.]*\) .*/\1/p' CMakeLists.txt >"$stage/VERSION"
"$python" -m grpc_tools.protoc -I proto --python_out="$stage/src" --pyi_out="$stage/src" \
  --grpc_python_out="$stage/src" "${protos[@]}"
(cd proto && cp "${protos[@]}" "$stage/src/ounce/v1")
rm -f "$out"/ounce_client-*.whl
# Same sources, same bytes: the files of a wheel have times.
SOURCE_DATE_EPOCH=$(git log -1 --format=%ct 2>/dev/null || echo 315532800) \
  "$python" -m pip wheel --quiet --disable-pip-version-check --no-deps --no-build-isolation \
  --wheel-dir "$out" "$stage"
