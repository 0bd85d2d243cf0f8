#!/usr/bin/env bash
# SPDX-FileCopyrightText: 2026 The qlr authors
# SPDX-License-Identifier: MIT
# Installs what the build needs and the machine lacks; options name what is wanted besides:
#   --fuzz     clang and its sanitizer runtime
#   --aarch64  compiler and emulator that test the kernels for AArch64 on an x86-64 machine (Debian, Ubuntu)
#   Debian, Ubuntu: apt-get (through sudo when not root); macOS: brew; elsewhere: lists what is missing and fails.
set -euo pipefail

with_fuzz=false
with_aarch64=false
for option in "$@"; do
  case $option in
    --fuzz) with_fuzz=true ;;
    --aarch64) with_aarch64=true ;;
    *)
      echo "install_dependencies.sh: unknown argument $option" >&2
      exit 2
      ;;
  esac
done

has() { command -v "$1" > /dev/null; }

# missing_packages IS_INSTALLED PACKAGE...: prints those for which the command IS_INSTALLED fails
missing_packages() {
  local is_installed=$1 package
  shift
  for package in "$@"; do
    "$is_installed" "$package" || printf '%s\n' "$package"
  done
}

# A tool may come from elsewhere, so its command counts; a library counts by its package.
apt_has() {
  case $1 in
    g++) has c++ || has g++ ;;
    cmake | make | git | python3 | clang) has "$1" ;;
    *) dpkg-query -W -f '${Status}' "$1" 2> /dev/null | grep -q 'install ok installed' ;;
  esac
}

as_root() {
  if [ "$(id -u)" -eq 0 ]; then "$@"; else sudo "$@"; fi
}

apt_install_missing() {
  local packages
  mapfile -t packages < <(missing_packages apt_has "$@")
  [ ${#packages[@]} -eq 0 ] && return
  echo "installing: ${packages[*]}"
  as_root apt-get update -qq
  as_root env DEBIAN_FRONTEND=noninteractive apt-get install -y -qq --no-install-recommends "${packages[@]}"
}

# The package of clang's sanitizer runtime: split off in newer releases.
clang_runtime_package() {
  local version
  version=$(clang --version | sed -n 's/.*clang version \([0-9]*\).*/\1/p')
  if apt-cache show "libclang-rt-$version-dev" > /dev/null 2>&1; then
    echo "libclang-rt-$version-dev"
  else
    echo "libclang-common-$version-dev"
  fi
}

header_exists() {
  [ -n "$(find /usr/include /usr/local/include -maxdepth 3 -path "*/$1*" -print -quit 2> /dev/null)" ]
}

brew_has() { brew list "$1" > /dev/null 2>&1; }

if has apt-get; then
  apt_install_missing g++ cmake make git python3 libeigen3-dev catch2 nlohmann-json3-dev libcli11-dev \
    libopenblas-dev liblapacke-dev libbenchmark-dev libglpk-dev libopenmpi-dev openmpi-bin
  if $with_fuzz; then
    apt_install_missing clang
    apt_install_missing "$(clang_runtime_package)"
  fi
  if $with_aarch64 && [ "$(uname -m)" = x86_64 ]; then
    apt_install_missing g++-aarch64-linux-gnu qemu-user
  fi
elif has brew; then
  for package in $(missing_packages brew_has cmake eigen catch2 nlohmann-json cli11 google-benchmark); do
    brew install "$package"
  done
else
  missing=$(
    missing_packages has c++ cmake make python3
    missing_packages header_exists Eigen/Core catch2 nlohmann/json.hpp CLI/CLI.hpp lapacke.h benchmark/benchmark.h
  )
  if [ -n "$missing" ]; then
    printf 'neither apt-get nor brew is here; please install what provides:\n%s\n' "$missing" >&2
    exit 1
  fi
fi
