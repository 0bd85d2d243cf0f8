#!/usr/bin/env bash
# SPDX-FileCopyrightText: 2026 The qlr authors
# SPDX-License-Identifier: MIT
# Builds and runs the tests; ends with ctest's summary.
#
#   bash tests/run.sh [--sanitize address,undefined|thread] [--label REGEX]
#   bash tests/run.sh --fuzz SECONDS
#
#   --sanitize LIST  build with these sanitizers (in a build folder of its own)
#   --label REGEX    run only tests whose ctest label (room, headers, hygiene, package, threads, ...) matches
#   --fuzz SECONDS   instead of the tests, run every fuzzer that long, all at once, on a copy of the corpus (clang)
#
# CXX chooses the compiler, QLR_TEST_DATA_DIR the folder with the reference data.
set -euo pipefail

usage() { sed -n '4,/^set /{/^set /d;s/^# \{0,1\}//;p;}' "${BASH_SOURCE[0]}"; }

# One bound for everything that runs at once: the number of usable processors.
jobs=$(nproc 2> /dev/null || sysctl -n hw.ncpu)
root=$(cd "$(dirname "${BASH_SOURCE[0]}")/.." && pwd)
build=$root/build/test
configure_flags=()
ctest_flags=()
fuzz_seconds=

fail_usage() {
  echo "run.sh: $1" >&2
  usage >&2
  exit 2
}

while [ $# -gt 0 ]; do
  case $1 in -h | --help) usage; exit 0 ;; esac
  [ $# -ge 2 ] || fail_usage "$1 is unknown or needs a value"
  case $1 in
    --sanitize)
      build=$root/build/test-${2//,/-}
      configure_flags+=("-DQLR_SANITIZE=$2" -DQLR_BUILD_EXAMPLES=OFF)
      # Hundreds of full SVDs take many minutes there; the same code runs on smaller matrices in other tests.
      ctest_flags+=(-E "^golden: (loftq equals|lq-lora is never|l2qer|caldera|with )") ;;
    --label) ctest_flags+=(-L "$2") ;;
    --fuzz) fuzz_seconds=$2 ;;
    *) fail_usage "unknown argument $1" ;;
  esac
  shift 2
done
[ -z "${QLR_TEST_DATA_DIR:-}" ] || configure_flags+=("-DQLR_TEST_DATA_DIR=$QLR_TEST_DATA_DIR")

configure() { cmake -S "$root" -B "$build" -DQLR_BUILD_BENCHMARKS=OFF "$@"; }

run_tests() {
  bash "$root/cmake/install_dependencies.sh"
  configure ${configure_flags[@]+"${configure_flags[@]}"}
  cmake --build "$build" --parallel "$jobs"
  ctest --test-dir "$build" --output-on-failure --parallel "$jobs" --no-tests=error \
    ${ctest_flags[@]+"${ctest_flags[@]}"}
}

run_fuzzers() {
  bash "$root/cmake/install_dependencies.sh" --fuzz
  build=$root/build/fuzz
  configure -DCMAKE_CXX_COMPILER=clang++ -DQLR_BUILD_FUZZERS=ON -DQLR_BUILD_EXAMPLES=OFF
  cmake --build "$build" --parallel "$jobs" --target qlr_fuzzers

  local names=() pids=() source name corpus failed=0
  for source in "$root"/tests/fuzz/fuzz_*.cpp; do
    [ -e "$source" ] || { echo "run.sh: there are no fuzzers" >&2; return 1; }
    name=$(basename "$source" .cpp)
    corpus=$build/corpus/$name
    mkdir -p "$corpus"
    # corpus/<format> where the corpus is split by format, else all of it
    cp -R "$root/tests/fuzz/corpus/${name#fuzz_}/." "$corpus" 2> /dev/null ||
      cp -R "$root/tests/fuzz/corpus/." "$corpus" 2> /dev/null || true
    "$build/tests/fuzz/$name" -max_total_time="$fuzz_seconds" -timeout=10 -rss_limit_mb=2048 -print_final_stats=1 \
      -artifact_prefix="$build/$name-" "$corpus" > "$build/$name.log" 2>&1 &
    names+=("$name")
    pids+=($!)
  done
  for i in "${!pids[@]}"; do
    if wait "${pids[$i]}"; then
      echo "${names[$i]}: $(sed -n 's/stat::number_of_executed_units: *//p' "$build/${names[$i]}.log") runs, no finding"
    else
      echo "${names[$i]}: FAILED, input in $build/${names[$i]}-*"
      tail -n 60 "$build/${names[$i]}.log"
      failed=1
    fi
  done
  return $failed
}

if [ -n "$fuzz_seconds" ]; then run_fuzzers; else run_tests; fi
