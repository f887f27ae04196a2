#!/usr/bin/env bash
# Puts on a Debian 12 machine what ferro builds with: Debian's packages, LibTorch unpacked from its wheel into
# .deps/libtorch, and the two CUDA run-time libraries that LibTorch needs even on a CPU in .deps/cuda-runtime.
# Takes a minute the first time, and well under a second when everything is there.
#   FERRO_NO_TOOLKIT=1  take the CUDA run-time libraries from PyPI although a toolkit is installed
set -euo pipefail

root=$(cd "$(dirname "${BASH_SOURCE[0]}")/.." && pwd)
deps=$root/.deps
started=$(date +%s)

packages=(
  cmake ninja-build ccache pkg-config
  libfmt-dev libspdlog-dev libyaml-cpp-dev libcli11-dev nlohmann-json3-dev libssl-dev
  libsimdjson-dev libpcre2-dev libutf8proc-dev
  libopencv-core-dev libopencv-imgproc-dev libopencv-imgcodecs-dev libjpeg62-turbo-dev
  libgloo-dev
  libgrpc++-dev libprotobuf-dev protobuf-compiler protobuf-compiler-grpc
  catch2
)

# The wheels, with the sums that pip checks: nothing else is accepted.
torch_version=2.11.0
torch_wheel="torch==$torch_version --hash=sha256:7aa2f9bbc6d4595ba72138026b2074be1233186150e9292865e04b7a63b8c67a"
cudart_wheel="nvidia-cuda-runtime==13.0.96 --hash=sha256:7f82250d7782aa23b6cfe765ecc7db554bd3c2870c43f3d1821f1d18aebf0548"
cupti_wheel="nvidia-cuda-cupti==13.0.85 --hash=sha256:4eb01c08e859bf924d222250d2e8f8b8ff6d3db4721288cf35d14252a4d933c8"
runtime_libraries=(libcudart.so.13 libcupti.so.13)

say() { printf 'setup: %s\n' "$*"; }
die() {
  printf 'setup: error: %s\n' "$*" >&2
  exit 1
}

missing_packages() {
  local installed
  installed=" $(dpkg-query -W -f='${db:Status-Status}:${Package} ' "${packages[@]}" 2>/dev/null || true)"
  for package in "${packages[@]}"; do
    [[ $installed == *" installed:$package "* ]] || printf '%s ' "$package"
  done
  command -v g++ >/dev/null || printf 'g++ '
  command -v python3 >/dev/null || printf 'python3 '
}

install_packages() {
  local missing as_root=()
  command -v dpkg-query >/dev/null || die "this is no Debian system; install what stands in launch/setup.sh under 'packages' by hand"
  missing=$(missing_packages)
  [ -z "$missing" ] && return
  say "installing Debian packages: $missing"
  if [ "$(id -u)" -ne 0 ]; then
    command -v sudo >/dev/null || die "these packages are missing and there is no sudo; as root run: apt-get install $missing"
    as_root=(sudo)
  fi
  # shellcheck disable=SC2086  # the list is words
  { "${as_root[@]}" apt-get update -q &&
    "${as_root[@]}" env DEBIAN_FRONTEND=noninteractive apt-get install -q -y --no-install-recommends $missing; } \
    >"$work/apt.log" 2>&1 || {
    tail -n 15 "$work/apt.log" >&2
    die "apt-get failed (its last lines stand above); is this Debian 12 with a working package source?"
  }
}

# fetch_wheel NAME REQUIREMENT: leaves one verified wheel in $work/NAME.
fetch_wheel() {
  python3 -m pip --version >/dev/null 2>&1 || die "python3 has no pip: install the package python3-pip"
  mkdir -p "$work/$1"
  printf '%s\n' "$2" >"$work/$1.txt"
  python3 -m pip download --no-cache-dir --no-deps --require-hashes --only-binary=:all: --progress-bar off \
    --python-version 3.11 --implementation cp --abi cp311 --abi abi3 --abi none \
    --platform manylinux_2_28_x86_64 --platform manylinux_2_25_x86_64 --platform manylinux_2_17_x86_64 \
    --platform manylinux2014_x86_64 --dest "$work/$1" -r "$work/$1.txt" >"$work/$1.log" 2>&1 || {
    tail -n 5 "$work/$1.log" >&2
    die "pip could not download ${2%% *} (its last lines stand above): check the network and pip's settings, then run this again"
  }
}

# unpack WHEEL TARGET PREFIX...: what lies under the prefixes, without the first part of its path.
unpack() {
  python3 - "$@" <<'PYTHON'
import os, shutil, sys, zipfile
wheel, target, *prefixes = sys.argv[1:]
with zipfile.ZipFile(wheel) as archive:
    for member in archive.infolist():
        prefix = next((p for p in prefixes if member.filename.startswith(p)), None)
        if prefix is None or member.is_dir() or ".." in member.filename.split("/"):
            continue
        path = os.path.join(target, member.filename.split("/", 1)[1])
        os.makedirs(os.path.dirname(path), exist_ok=True)
        with archive.open(member) as source, open(path, "wb") as out:
            shutil.copyfileobj(source, out, 1 << 20)
PYTHON
}

have_libtorch() {
  local version
  [ -e "$deps/libtorch/lib/libtorch_cpu.so" ] && [ -e "$deps/libtorch/include/ATen/ATen.h" ] || return 1
  version=$(awk '/define TORCH_VERSION_(MAJOR|MINOR|PATCH) / {printf "%s%s", dot, $3; dot = "."}' \
    "$deps/libtorch/include/torch/headeronly/version.h")
  [ "$version" = "$torch_version" ]
}

install_libtorch() {
  have_libtorch && return
  local free_kib
  free_kib=$(df --output=avail -k "$deps" | tail -n 1)
  [ "$free_kib" -ge 2500000 ] || die "unpacking LibTorch takes 2.5 GB, and $deps has $((free_kib / 1000)) MB free"
  say "downloading LibTorch $torch_version (530 MB)"
  fetch_wheel torch "$torch_wheel"
  say "unpacking LibTorch (1.1 GB)"
  unpack "$work"/torch/*.whl "$work/libtorch" torch/lib/ torch/include/ torch/share/
  rm -rf "$work/torch"
  rm -rf "$deps/libtorch"
  mv "$work/libtorch" "$deps/libtorch"
}

have_runtime() {
  for library in "${runtime_libraries[@]}"; do [ -e "$deps/cuda-runtime/$library" ] || return 1; done
}

# The toolkit's copy of a library, or nothing.
in_toolkit() {
  local folder
  [ -z "${FERRO_NO_TOOLKIT:-}" ] || return 0
  for folder in ${CUDA_HOME:-} /usr/local/cuda /usr/local/cuda-13*; do
    for place in lib64 lib targets/x86_64-linux/lib extras/CUPTI/lib64; do
      if [ -e "$folder/$place/$1" ]; then
        readlink -f "$folder/$place/$1"
        return
      fi
    done
  done
}

install_runtime() {
  have_runtime && return
  local library found folder=$work/cuda-runtime
  mkdir -p "$folder"
  for library in "${runtime_libraries[@]}"; do
    found=$(in_toolkit "$library")
    if [ -n "$found" ]; then
      ln -s "$found" "$folder/$library"
      continue
    fi
    say "downloading $library"
    case $library in
      libcudart*) fetch_wheel "$library" "$cudart_wheel" ;;
      libcupti*) fetch_wheel "$library" "$cupti_wheel" ;;
    esac
    unpack "$work/$library"/*.whl "$work/$library" "nvidia/cu13/lib/$library"
    mv "$work/$library/cu13/lib/$library" "$folder/$library"
  done
  rm -rf "$deps/cuda-runtime"
  mv "$folder" "$deps/cuda-runtime"
}

check_libtorch() {
  local lost
  lost=$(LD_LIBRARY_PATH=$deps/cuda-runtime ldd "$deps/libtorch/lib/libtorch_cpu.so" | grep 'not found' || true)
  [ -z "$lost" ] || die "LibTorch lacks libraries: $lost"
}

[ "$(uname -m)" = x86_64 ] || die "LibTorch's wheel is for x86_64; this machine is $(uname -m)"
mkdir -p "$deps"
exec 9>"$deps/.lock"
flock 9  # A second setup of this clone waits for the first; what a killed one left is then nobody's.
rm -rf "$deps"/setup-*
work=$(mktemp -d "$deps/setup-XXXXXX")
trap 'rm -rf "$work"' EXIT

install_packages
if ! have_libtorch || ! have_runtime; then
  install_libtorch
  install_runtime
  check_libtorch
fi
say "ready ($(($(date +%s) - started)) s)"
