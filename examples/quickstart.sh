#!/usr/bin/env bash
# SPDX-FileCopyrightText: 2026 The qlr authors
# SPDX-License-Identifier: MIT
# Builds decompose_matrix, decomposes its built-in 1024x1024 matrix with three methods at equal bits and rank, and
# prints one table comparing them.
set -euo pipefail

jobs=$(nproc 2> /dev/null || sysctl -n hw.ncpu)
root=$(cd "$(dirname "${BASH_SOURCE[0]}")/.." && pwd)
build=$root/build/quickstart

# print_table JSON...: one line per report; the reports hold one key per line
print_table() {
  awk '
    BEGIN { printf "%-8s  %14s  %15s  %8s\n", "method", "relative error", "bits per weight", "seconds" }
    match($0, /^ *"[a-z_]+": */) {
      key = $0; sub(/^ *"/, "", key); sub(/".*/, "", key)
      value = substr($0, RLENGTH + 1); gsub(/[",]/, "", value)
      report[key] = value
    }
    /^}/ {
      printf "%-8s  %14.6f  %15.3f  %8.2f\n", report["method"], report["relative_error"],
             report["bits_per_weight"], report["seconds_total"]
      split("", report)
    }' "$@"
}

main() {
  bash "$root/cmake/install_dependencies.sh"
  cmake -S "$root" -B "$build" -DQLR_BUILD_TESTS=OFF -DQLR_BUILD_BENCHMARKS=OFF -DQLR_ENABLE_CUDA=OFF > /dev/null
  echo "building decompose_matrix ..."
  cmake --build "$build" --parallel "$jobs" --target decompose_matrix > /dev/null

  local reports=() method report
  for method in qlora "loftq --iterations 5" best; do
    report=$build/${method%% *}.json
    reports+=("$report")
    # shellcheck disable=SC2086 # the method's own options are split on purpose
    "$build/examples/decompose_matrix" --method $method --quantizer nf4 --rank 32 --quiet --json "$report"
  done
  echo
  echo "1024x1024 matrix, NF4, rank 32:"
  print_table "${reports[@]}"
}

# Sourcing this file only defines the functions.
if [ "${BASH_SOURCE[0]}" = "$0" ]; then main; fi
