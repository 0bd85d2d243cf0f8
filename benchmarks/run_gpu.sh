#!/usr/bin/env bash
# SPDX-FileCopyrightText: 2026 The qlr authors
# SPDX-License-Identifier: MIT
# Builds, tests and measures everything that needs a GPU, in one call of under ten minutes, without a network.
#
#   bash benchmarks/run_gpu.sh [--prefix FOLDER] [--out FOLDER] [--skip-sanitizer] [--skip-benchmarks]
#
#   --prefix FOLDER     where Eigen, Catch2, Google Benchmark and nlohmann-json were unpacked (FOLDER/usr/...), if not installed
#   --out FOLDER        results: logs, JSON, environment (default: build/gpu/results)
#   --skip-sanitizer    without compute-sanitizer's memcheck, racecheck and synccheck
#   --skip-benchmarks   tests only
#
# Exits with 1 when a test, a sanitizer or a benchmark's own check fails; everything else still runs.
set -euo pipefail

usage() { sed -n '4,/^set /{/^set /d;s/^# \{0,1\}//;p;}' "${BASH_SOURCE[0]}"; }

root=$(cd "$(dirname "${BASH_SOURCE[0]}")/.." && pwd)
build=$root/build/gpu
out=
prefix=
with_sanitizer=true
with_benchmarks=true

while [ $# -gt 0 ]; do
  case $1 in
    -h | --help) usage; exit 0 ;;
    --prefix) prefix=$(cd "$2" && pwd); shift ;;
    --out) out=$2; shift ;;
    --skip-sanitizer) with_sanitizer=false ;;
    --skip-benchmarks) with_benchmarks=false ;;
    *) echo "run_gpu.sh: unknown argument $1" >&2; usage >&2; exit 2 ;;
  esac
  shift
done
out=${out:-$build/results}
mkdir -p "$out"
failed=0

# run NAME SECONDS COMMAND...: output to NAME.log; what fails or takes too long is remembered
run() {
  local name=$1 limit=$2 start=$SECONDS status=0
  shift 2
  timeout "$limit" "$@" > "$out/$name.log" 2>&1 || status=$?
  printf '%-28s %4d s  %s\n' "$name" $((SECONDS - start)) "$([ $status -eq 0 ] && echo passed || echo "FAILED ($status)")"
  if [ $status -ne 0 ]; then
    tail -n 15 "$out/$name.log"
    failed=1
  fi
}

# 90 -> 90a: the instructions of that architecture alone
architecture() {
  local capability
  capability=$(nvidia-smi --query-gpu=compute_cap --format=csv,noheader | head -n 1 | tr -d '.')
  if [ "$capability" -ge 90 ]; then echo "${capability}a"; else echo "$capability"; fi
}

record_environment() {
  date -u '+date: %F %T UTC'
  echo "commit: $(git -C "$root" rev-parse HEAD 2> /dev/null || echo unknown)"
  nvidia-smi --query-gpu=name,driver_version,memory.total,clocks.sm,clocks.max.sm,clocks.mem,power.limit --format=csv
  nvcc --version | tail -n 2
  nproc
}

configure() {
  local flags=(-DCMAKE_BUILD_TYPE=Release -DQLR_ENABLE_CUDA=ON "-DCMAKE_CUDA_ARCHITECTURES=$(architecture)" -DQLR_BLAS=OFF)
  if [ -n "$prefix" ]; then
    flags+=("-DCMAKE_PREFIX_PATH=$prefix/usr" "-DEigen3_DIR=$prefix/usr/share/eigen3/cmake")
  fi
  if command -v ninja > /dev/null; then flags+=(-G Ninja); fi
  cmake -S "$root" -B "$build" "${flags[@]}"
}

command -v nvcc > /dev/null || export PATH=$PATH:/usr/local/cuda/bin
record_environment | tee "$out/environment.txt"
configure > "$out/configure.log" 2>&1 || { tail -n 15 "$out/configure.log"; exit 1; }
run build 420 cmake --build "$build" --parallel "$(nproc)" --target qlr_gpu_programs
run tests 240 ctest --test-dir "$build" -L gpu --output-on-failure --no-tests=error
if $with_sanitizer && command -v compute-sanitizer > /dev/null; then
  # Cases tagged [slow] take minutes there; the same kernels run in others.
  for tool in memcheck racecheck synccheck; do
    run "sanitizer-$tool" 150 compute-sanitizer --tool "$tool" --error-exitcode 1 \
      "$build/tests/cuda/qlr_gpu_test" '~[slow]'
  done
fi
if $with_benchmarks; then
  run matmul_cuda_bench 240 "$build/benchmarks/qlr_matmul_cuda_bench" "--benchmark_out=$out/matmul_cuda.json"
  run decompose_cuda_bench 120 "$build/benchmarks/qlr_decompose_cuda_bench" "--benchmark_out=$out/decompose_cuda.json"
  if python3 -c 'import torch' 2> /dev/null; then
    run torch_svd 120 python3 "$root/benchmarks/decompose/torch_svd.py"
  fi
fi
exit $failed
