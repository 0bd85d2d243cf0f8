// SPDX-FileCopyrightText: 2026 The qlr authors
// SPDX-License-Identifier: MIT
#include <cuda/support.hpp>
#include <qlr/cuda/detail/wgmma_tile.hpp>
#include <qlr/cuda/packed_weights.hpp>
#include <qlr/quant/formats.hpp>
#include <support/catch.hpp>
#include <support/generators.hpp>
#include <support/oracles.hpp>

#include <cmath>
#include <cstdint>
#include <limits>
#include <string>
#include <type_traits>
#include <vector>

namespace {

namespace detail = qlr::cuda::detail;
using qlr::index_t;

/// One tile of Q X^T per block.
template <class T, int Bits, int RowTiles>
struct tile_kernel {
  static constexpr std::string_view name = "tile_kernel";
  using shape = detail::group_shape<RowTiles>;
  static constexpr int most_threads = shape::threads;
  static constexpr int least_blocks = 1;

  detail::matmul_arguments args;
  float* out; // (t,m)

  template <detail::kernel_thread Thread>
  QLR_DEVICE void operator()(Thread& thread) const {
    if constexpr (detail::warpgroup_thread<Thread>) run(thread);
  }

  template <class Thread>
  QLR_DEVICE void run(Thread& thread) const {
    detail::fill_table<Bits>(thread, args.weights.table, thread.template shared<std::uint32_t>(0));
    detail::work_item item;
    item.row_tile = static_cast<std::int32_t>(thread.block() % args.schedule.row_tiles);
    item.token_tile = static_cast<std::int32_t>(thread.block() / args.schedule.row_tiles);
    item.num_stages = static_cast<std::int32_t>(args.weights.columns.num_blocks);
    float sums[RowTiles][16][4] = {};
    detail::group_tile<T, Bits, RowTiles, Thread>(thread, args, item).multiply(sums);
    const int lane = thread.index() % 32;
    QLR_UNROLL
    for (int r = 0; r < RowTiles; ++r) {
      QLR_UNROLL
      for (int i = 0; i < 64; ++i) {
        const index_t row = item.row_tile * shape::rows + (thread.index() / 32 * RowTiles + r) * 16 +
                            lane / 4 + i % 4 / 2 * 8;
        const index_t token = item.token_tile * shape::tokens + i / 4 * 8 + 2 * (lane % 4) + i % 2;
        if (row < args.weights.rows && token < args.tokens)
          out[token * args.weights.rows + row] = sums[r][i / 4][i % 4] * args.weights.row_factors[row];
      }
    }
  }
};

template <class T>
T round_to(double value) {
  if constexpr (std::is_same_v<T, qlr::float16>) {
    return qlr::to_float16(static_cast<float>(value));
  } else {
    return qlr::to_bfloat16(static_cast<float>(value));
  }
}

/// An element of Q as the kernel rounds it: T(T(level - zero) * T(scale)), times a power of two.
template <class T>
double rounded_element(const qlr::quantized_matrix& q, index_t row, index_t col) {
  const qlr::test::slow_block block = qlr::test::block_of(q, row, col);
  const auto level = static_cast<double>(q.levels()[qlr::test::code_of(q, row, col)]);
  const double rounded_level = qlr::to_float(round_to<T>(level));
  const double difference =
      qlr::to_float(round_to<T>(rounded_level - qlr::to_float(round_to<T>(block.zero))));
  // Scales of a row are divided by a power of two, so that no number here is denormal.
  int exponent = 0;
  const double mantissa = std::frexp(block.scale, &exponent);
  const double scale = qlr::to_float(round_to<T>(mantissa));
  return std::ldexp(static_cast<double>(qlr::to_float(round_to<T>(difference * scale))), exponent);
}

struct tile_case {
  const char* format;
  index_t group_size;
  index_t rows;
  index_t cols;
  index_t tokens;
};

template <class T, int Bits, int RowTiles>
void check_case(const tile_case& c) {
  CAPTURE(c.format, c.group_size, c.rows, c.cols, c.tokens, Bits, RowTiles);
  const qlr::matrix<float> weight = qlr::test::normal_matrix(c.rows, c.cols, 5);
  const qlr::quantized_matrix q =
      quantize(weight.view(), qlr::make_quantizer(c.format, {.group_size = c.group_size}));
  const qlr::matrix<float> left(c.rows, 0);
  const qlr::matrix<float> right(0, c.cols);
  const auto packed = qlr::cuda::prepack<T>(q.view(), left.view(), right.view(), 1.0F);
  REQUIRE(packed.bits() == Bits);

  const index_t stride = (c.cols + 7) / 8 * 8 + 16;
  qlr::matrix<float> x = qlr::test::normal_matrix(c.tokens, c.cols, 6);
  std::vector<std::uint16_t> x_bits(static_cast<std::size_t>(c.tokens * stride),
                                    0x7FFF); // NaN between the rows
  for (index_t t = 0; t < c.tokens; ++t) {
    for (index_t j = 0; j < c.cols; ++j) {
      const T rounded = round_to<T>(static_cast<double>(x(t, j)));
      x(t, j) = qlr::to_float(rounded);
      x_bits[static_cast<std::size_t>(t * stride + j)] = rounded.bits;
    }
  }
  const auto x_device = qlr::cuda::to_device(std::span<const std::uint16_t>(x_bits));
  std::vector<float> out(static_cast<std::size_t>(c.tokens * c.rows),
                         std::numeric_limits<float>::quiet_NaN());
  auto out_device = qlr::cuda::to_device(std::span<const float>(out));

  tile_kernel<T, Bits, RowTiles> kernel{};
  kernel.out = out_device.data();
  kernel.args.weights = packed.view();
  kernel.args.x = x_device.data();
  kernel.args.x_row_stride = stride;
  kernel.args.tokens = c.tokens;
  kernel.args.schedule.row_tiles = (c.rows + 128 * RowTiles - 1) / (128 * RowTiles);
  kernel.args.schedule.token_tiles = (c.tokens + 127) / 128;
  const detail::group_memory memory =
      detail::lay_out_group_memory<Bits, detail::group_shape<RowTiles>>(kernel.args.weights);
  qlr::test::test_launcher::launch(kernel,
                                   {kernel.args.schedule.row_tiles * kernel.args.schedule.token_tiles,
                                    detail::group_shape<RowTiles>::threads, memory.bytes},
                                   nullptr);
  qlr::cuda::copy_to_host(out_device.data(), std::span<float>(out), nullptr);

  qlr::matrix<double> elements(c.rows, c.cols);
  for (index_t i = 0; i < c.rows; ++i) {
    for (index_t j = 0; j < c.cols; ++j) elements(i, j) = rounded_element<T>(q, i, j);
  }
  int num_wrong = 0;
  for (index_t t = 0; t < c.tokens; ++t) {
    for (index_t i = 0; i < c.rows; ++i) {
      double sum = 0;
      double size = 0;
      for (index_t j = 0; j < c.cols; ++j) {
        const double product = elements(i, j) * static_cast<double>(x(t, j));
        sum += product;
        size += std::fabs(product);
      }
      // fp32 sums of at most 320 products: each of the additions rounds at most size * 2^-24.
      const double error =
          std::fabs(static_cast<double>(out[static_cast<std::size_t>(t * c.rows + i)]) - sum);
      num_wrong += error <= size * 0x1p-16 ? 0 : 1;
    }
  }
  CHECK(num_wrong == 0);
}

bool has_warpgroups() {
  if (!qlr::test::has_device()) return false;
  if (qlr::test::test_launcher::has_warpgroup_code<tile_kernel<qlr::float16, 4, 2>>()) return true;
  std::printf("SKIPPED: not an sm_90a device and program\n");
  return false;
}

} // namespace

TEST_CASE("group tile: products of 4-bit codes are right in every order", "[cuda]") {
  if (!has_warpgroups()) return;
  // More stages than the ring has slots; rows and tokens that do not fill the tile.
  qlr::test::in_every_order([] { check_case<qlr::bfloat16, 4, 2>({"nf4", 64, 250, 520, 9}); });
}

TEST_CASE("group tile: every width, grouping and zero point", "[cuda]") {
  if (!has_warpgroups()) return;
  check_case<qlr::float16, 2, 2>({"uint2", 64, 256, 128, 128});
  check_case<qlr::bfloat16, 3, 2>({"int3", 128, 17, 320, 3});
  check_case<qlr::float16, 3, 1>({"uint3", 32, 129, 100, 5});
  check_case<qlr::float16, 4, 2>({"uint4", 16, 40, 200, 130});
  check_case<qlr::bfloat16, 4, 1>({"int4", 0, 130, 72, 1});
  check_case<qlr::float16, 4, 2>({"mxint4", 32, 20, 64, 2});   // exponents as scales
  check_case<qlr::float16, 4, 1>({"minmax4", 48, 16, 144, 2}); // fp32 scales and zero points
  check_case<qlr::bfloat16, 8, 2>({"uint8", 64, 300, 64, 7});
  check_case<qlr::float16, 8, 1>({"nf8", 128, 33, 200, 129});
  check_case<qlr::float16, 4, 2>({"int4", 0, 1, 1, 1});
}
