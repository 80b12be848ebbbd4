# What a Debian 12 machine needs for ./run. Sourced by it.

build_packages=(
  ca-certificates cmake fonts-dejavu-core g++ ninja-build pkg-config
  libabsl-dev libcairo2-dev libcli11-dev libcurl4-openssl-dev libgrpc++-dev libjpeg62-turbo-dev libmicrohttpd-dev libminizip-dev libpcre2-dev libpng-dev
  libprotobuf-dev libspdlog-dev libssl-dev libutf8proc-dev libwebp-dev
  nlohmann-json3-dev prometheus-cpp-dev protobuf-compiler protobuf-compiler-grpc zlib1g-dev
)
test_packages=(bubblewrap curl libgmock-dev libgtest-dev openssl python3-pip python3-venv unzip)
lint_packages=(clang-14 clang-format-14 clang-tidy-14 git)
fuzz_packages=(clang-14 libclang-rt-14-dev llvm-14)
python_packages=(python3-pip python3-venv)

deps_folder() { echo "${OUNCE_DEPS:-${XDG_CACHE_HOME:-$HOME/.cache}/ounce}"; }

as_root() {
  if ((EUID == 0)); then
    "$@"
  elif command -v sudo >/dev/null; then
    sudo "$@"
  else
    echo "setup: this needs root or sudo: $*" >&2
    return 1
  fi
}

# install_packages NAME...: those that are missing, if any.
install_packages() {
  if ! command -v dpkg-query >/dev/null; then
    echo "setup: not a Debian; these packages are up to you: $*"
    return
  fi
  local missing
  missing=$(comm -23 <(printf '%s\n' "$@" | sort -u) \
    <(dpkg-query -W -f '${Package} ${db:Status-Status}\n' "$@" 2>/dev/null |
      sed -n 's/ installed$//p' | sort -u))
  [[ -n $missing ]] || return 0
  echo "setup: installing" $missing
  local log
  mkdir -p "$(deps_folder)"
  log=$(deps_folder)/apt.log
  # shellcheck disable=SC2086  # one word per package
  {
    as_root apt-get update -q &&
      as_root env DEBIAN_FRONTEND=noninteractive apt-get install -qy --no-install-recommends $missing
  } >"$log" 2>&1 </dev/null || {
    tail -n 30 "$log" >&2
    echo "setup: apt-get failed; all of its words: $log" >&2
    return 1
  }
}

torch_index=https://download.pytorch.org/whl/cpu

# The one place that pins it is cmake/LibTorch.cmake.
libtorch_version() {
  sed -n 's/^set(OUNCE_LIBTORCH_VERSION \([0-9.]*\))$/\1/p' cmake/LibTorch.cmake
}

libtorch_root() { echo "${LIBTORCH:-$(deps_folder)/libtorch-$(libtorch_version)}"; }

# check_libtorch FOLDER: the pinned version, built without CUDA. A wheel says so
# in version.py, the LibTorch archive in build-version.
check_libtorch() {
  local wanted found
  wanted=$(libtorch_version)+cpu
  found=$(sed -n "s/^__version__ = '\(.*\)'$/\1/p" "$1/version.py" 2>/dev/null ||
    cat "$1/build-version" 2>/dev/null) || true
  if [[ $found != "$wanted" ]]; then
    echo "setup: '$1' holds LibTorch '$found', '$wanted' wanted" >&2
    return 1
  fi
  if [[ ! -e $1/lib/libtorch_cpu.so || -e $1/lib/libtorch_cuda.so ]]; then
    echo "setup: '$1/lib' lacks libtorch_cpu.so or has libtorch_cuda.so; the CPU build is wanted" >&2
    return 1
  fi
}

# pip_download FOLDER [PIP ARG...]: the wheel, the same one whatever Python this
# machine has, because nothing here runs its Python part.
pip_download() {
  local folder=$1 pip=(python3 -m pip)
  shift
  if command -v pip >/dev/null; then pip=(pip); fi
  "${pip[@]}" download --no-deps --no-cache-dir --dest "$folder" \
    --only-binary=:all: --implementation cp --python-version 3.11 --abi cp311 \
    --platform "manylinux_2_28_$(uname -m)" "$@" "torch==$(libtorch_version)+cpu"
}

# Runs in a subshell, whose trap sweeps up whatever happens.
fetch_libtorch() (
  root=$(libtorch_root)
  if [[ -n ${LIBTORCH:-} ]]; then
    check_libtorch "$LIBTORCH"
    return
  fi
  if [[ -e $root ]]; then
    check_libtorch "$root"
    return
  fi
  mkdir -p "$(deps_folder)"
  temp=$(mktemp -d "$root.XXXXXX")
  trap 'rm -rf "$temp"' EXIT
  echo "setup: fetching LibTorch $(libtorch_version) with pip"
  if ! pip_download "$temp" >"$temp/pip.log" 2>&1; then
    echo "setup: not from the configured indexes; asking PyTorch's as well"
    pip_download "$temp" --extra-index-url "$torch_index" \
      >>"$temp/pip.log" 2>&1 || {
      cat "$temp/pip.log" >&2
      echo "setup: pip could not get LibTorch; LIBTORCH=<a torch folder> is the other way" >&2
      return 1
    }
  fi
  # Not include/google: its protobuf 3.13 headers shadow the system's.
  unzip -q "$temp"/torch-*.whl torch/version.py \
    torch/lib/libtorch_cpu.so torch/lib/libtorch.so torch/lib/libc10.so 'torch/lib/libgomp*' \
    'torch/include/ATen/*' 'torch/include/c10/*' 'torch/include/torch/*' -d "$temp"
  check_libtorch "$temp/torch"
  mv -T "$temp/torch" "$root"
  echo "setup: LibTorch is in $root"
)

# Programs that tests start. Their packages are unpacked, not installed:
# installing them would start services.
test_programs=(prometheus nginx)

# Where they are, in the form of PATH.
test_programs_path() {
  local program path=
  for program in "${test_programs[@]}"; do
    path+=:$(deps_folder)/$program/usr/bin:$(deps_folder)/$program/usr/sbin
  done
  echo "${path#:}"
}

# fetch_test_program NAME: a package that is called as its program.
fetch_test_program() (
  if command -v "$1" >/dev/null || ! command -v apt-get >/dev/null; then return; fi
  if [[ -x $(deps_folder)/$1/usr/bin/$1 || -x $(deps_folder)/$1/usr/sbin/$1 ]]; then return; fi
  mkdir -p "$(deps_folder)"
  temp=$(mktemp -d "$(deps_folder)/$1.XXXXXX")
  trap 'rm -rf "$temp"' EXIT
  echo "setup: fetching $1"
  cd "$temp"
  {
    apt-get download "$1" || { as_root apt-get update -q && apt-get download "$1"; }
    mkdir unpacked
    dpkg-deb -x "$1"_*.deb unpacked
  } >log 2>&1 </dev/null || {
    cat log >&2
    echo "setup: no $1; the test that wants it will skip" >&2
    return 0
  }
  mv -T unpacked "$(deps_folder)/$1"
)

# What tests in Python need: tests/requirements.txt, in a virtual environment.
tests_venv() { echo "$(deps_folder)/tests-venv"; }

make_tests_venv() {
  local venv
  venv=$(tests_venv)
  if cmp -s tests/requirements.txt "$venv/requirements.txt"; then return; fi
  echo "setup: virtual environment $venv"
  rm -rf "$venv"
  python3 -m venv "$venv"
  "$venv/bin/pip" install --quiet --disable-pip-version-check -r tests/requirements.txt
  cp tests/requirements.txt "$venv/requirements.txt"
}

fetch_test_programs() {
  local program
  for program in "${test_programs[@]}"; do
    fetch_test_program "$program"
  done
}
