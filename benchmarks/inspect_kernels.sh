#!/usr/bin/env bash
# SPDX-FileCopyrightText: 2026 The qlr authors
# SPDX-License-Identifier: MIT

# Prints what the compiler made of the kernels of the fused product: registers, spilled bytes, shared memory of a
# block, and counts of the instructions that matter (HMMA: tensor cores; LDGSTS.128: asynchronous copies of 16
# bytes; LDSM: ldmatrix; LDS). Needs nvcc and cuobjdump, but no GPU.
#
#   benchmarks/inspect_kernels.sh [bits] [float16|bfloat16] [architecture...]     default: 4 float16 80 90
set -euo pipefail
cd "$(dirname "$0")/.."

bits=${1:-4}
type=${2:-float16}
architectures=("${@:3}")
if [ ${#architectures[@]} -eq 0 ]; then architectures=(80 90); fi
nvcc=${NVCC:-nvcc}
cuobjdump=${CUOBJDUMP:-cuobjdump}
for tool in "$nvcc" "$cuobjdump"; do
  command -v "$tool" >/dev/null || { echo "inspect_kernels.sh: $tool is missing" >&2; exit 1; }
done
folder=$(mktemp -d)
trap 'rm -rf "$folder"' EXIT

cat >"$folder/kernel.cu" <<'SOURCE'
#include <qlr/cuda/detail/gpu_launcher.cuh>
#include <qlr/cuda/detail/fused_matmul_kernel.hpp>

#include <cstdio>

using kernel = qlr::cuda::detail::fused_matmul_kernel<QLR_BITS, qlr::QLR_TYPE, QLR_TOKENS>;
template __global__ void qlr::cuda::detail::run_kernel(const __grid_constant__ kernel);
SOURCE
cat >"$folder/memory.cpp" <<'SOURCE'
#include <qlr/cuda/detail/matmul_plan.hpp>

#include <cstdio>

// Shared memory of one block with three stages, fp16 scales per 64 columns or more.
int main() {
  using namespace qlr::cuda::detail;
  const tile_constants tile = constants_of<QLR_BITS, tile_shape<QLR_TOKENS>>();
  const int scales = static_cast<int>(tile.rows) * tile.stage_blocks * 2;
  std::printf("%d\n", tile.ring_offset + 3 * ((tile.code_bytes + tile.x_bytes + scales + 127) / 128 * 128));
}
SOURCE
include=$(dirname "$(command -v "$nvcc")")/../include

printf '| kernel | arch | registers | spilled bytes | shared memory, 3 stages | HMMA | LDGSTS.128 | LDSM | LDS |\n'
printf '| --- | --- | --- | --- | --- | --- | --- | --- | --- |\n'
for tokens in 8 16 32 64 128; do
  defines=(-DQLR_BITS="$bits" -DQLR_TYPE="$type" -DQLR_TOKENS="$tokens")
  "${CXX:-c++}" -std=c++20 "${defines[@]}" -I include -isystem "$include" "$folder/memory.cpp" -o "$folder/memory"
  shared=$("$folder/memory")
  for architecture in "${architectures[@]}"; do
    "$nvcc" -std=c++20 --expt-relaxed-constexpr -arch="sm_$architecture" "${defines[@]}" -I include -Xptxas -v \
      -cubin "$folder/kernel.cu" -o "$folder/kernel.cubin" 2>"$folder/log"
    registers=$(grep -oE 'Used [0-9]+ registers' "$folder/log" | grep -oE '[0-9]+' | sort -n | tail -1)
    spilled=$(grep -oE '[0-9]+ bytes spill stores' "$folder/log" | grep -oE '^[0-9]+' | sort -n | tail -1)
    "$cuobjdump" -sass "$folder/kernel.cubin" >"$folder/sass"
    count() { grep -cE "[[:space:]]$1" "$folder/sass" || true; }
    printf '| %s bits, %s, %s tokens | sm_%s | %s | %s | %s | %s | %s | %s | %s |\n' "$bits" "$type" "$tokens" \
      "$architecture" "$registers" "$spilled" "$shared" "$(count HMMA)" "$(count 'LDGSTS[.A-Z]*\.128')" \
      "$(count LDSM)" "$(count 'LDS(\.| )')"
  done
done
