// SPDX-FileCopyrightText: 2026 The qlr authors
// SPDX-License-Identifier: MIT

// The scalar functions that CPU and GPU share give the same bits on both. Exits with 77 where there is no
// GPU.
#include <qlr/core/random.hpp>
#include <qlr/core/types.hpp>
#include <qlr/quant/codebook_grid.hpp>
#include <qlr/quant/minifloat_grid.hpp>
#include <qlr/quant/normal_float.hpp>
#include <qlr/quant/scale_fit.hpp>
#include <qlr/quant/scale_format.hpp>
#include <qlr/quant/uniform_grid.hpp>

#include <cstdio>
#include <cstring>
#include <vector>

namespace {

constexpr int num_values = 4096;
constexpr int words_per_value = 10;
constexpr int no_gpu = 77;

struct grids {
  qlr::uniform_grid<> signed4;
  qlr::uniform_grid<qlr::tie_rule::half_up> q4_0;
  qlr::codebook_grid<4> nf4;
  qlr::e2m1_grid e2m1;
};

/// Everything that is compared, as words, for one value.
QLR_HOST_DEVICE void evaluate(const grids& all, float value, std::uint32_t* words) {
  const qlr::scale_normaliser normalise(0.37F);
  words[0] = qlr::encode_value(all.signed4, normalise, 0.0F, value);
  words[1] = qlr::encode_value(all.q4_0, normalise, 0.0F, value);
  words[2] = qlr::encode_value(all.nf4, normalise, 0.0F, value);
  words[3] = qlr::encode_value(all.e2m1, normalise, 0.0F, value);
  const qlr::block_scale scale{0.37F, 0.0F};
  words[4] = std::bit_cast<std::uint32_t>(
      qlr::decode_value(all.nf4.decode(static_cast<qlr::code_t>(words[2])), scale));
  words[5] = qlr::to_float16(value).bits;
  words[6] = qlr::to_bfloat16(value).bits;
  words[7] = qlr::to_float8_e4m3(value).bits;
  words[8] = std::bit_cast<std::uint32_t>(qlr::round_to(qlr::scale_type::e8m0, value < 0 ? -value : value));
  words[9] = qlr::philox(7, std::bit_cast<std::uint32_t>(value))[2];
}

__global__ void evaluate_kernel(grids all, const float* values, std::uint32_t* words) {
  const int i = static_cast<int>(blockIdx.x * blockDim.x + threadIdx.x);
  if (i < num_values) evaluate(all, values[i], words + i * words_per_value);
}

bool succeeded(cudaError_t code, const char* what) {
  if (code != cudaSuccess) std::fprintf(stderr, "%s: %s\n", what, cudaGetErrorString(code));
  return code == cudaSuccess;
}

} // namespace

int main() {
  int num_devices = 0;
  if (cudaGetDeviceCount(&num_devices) != cudaSuccess || num_devices == 0) {
    std::printf("SKIPPED: no GPU\n");
    return no_gpu;
  }
  std::vector<float> values(num_values);
  for (int i = 0; i < num_values; ++i)
    values[static_cast<std::size_t>(i)] = static_cast<float>(qlr::normal_at(1, i));
  const grids all{qlr::signed_grid(4), qlr::signed_grid<qlr::tie_rule::half_up>(4),
                  qlr::codebook_grid<4>(qlr::nf4_bitsandbytes_levels), qlr::e2m1_grid{}};
  std::vector<std::uint32_t> expected(num_values * words_per_value);
  std::vector<std::uint32_t> actual(expected.size(), 0xFFFFFFFFU);
  for (std::size_t i = 0; i < values.size(); ++i)
    evaluate(all, values[i], expected.data() + i * words_per_value);

  float* device_values = nullptr;
  std::uint32_t* device_words = nullptr;
  const std::size_t value_bytes = values.size() * sizeof(float);
  const std::size_t word_bytes = actual.size() * sizeof(std::uint32_t);
  if (!succeeded(cudaMalloc(&device_values, value_bytes), "cudaMalloc")) return 1;
  if (!succeeded(cudaMalloc(&device_words, word_bytes), "cudaMalloc")) return 1;
  if (!succeeded(cudaMemcpy(device_values, values.data(), value_bytes, cudaMemcpyHostToDevice), "copy in"))
    return 1;
  evaluate_kernel<<<num_values / 256, 256>>>(all, device_values, device_words);
  if (!succeeded(cudaGetLastError(), "evaluate_kernel")) return 1;
  if (!succeeded(cudaMemcpy(actual.data(), device_words, word_bytes, cudaMemcpyDeviceToHost), "copy out"))
    return 1;
  (void)cudaFree(device_values);
  (void)cudaFree(device_words);

  int num_different = 0;
  for (std::size_t i = 0; i < actual.size(); ++i) num_different += actual[i] != expected[i] ? 1 : 0;
  std::printf("%d of %zu words differ\n", num_different, actual.size());
  return num_different == 0 ? 0 : 1;
}
