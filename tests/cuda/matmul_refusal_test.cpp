// SPDX-FileCopyrightText: 2026 The qlr authors
// SPDX-License-Identifier: MIT

// What the fused product on a device refuses, how it chooses a variant, and how it cuts work.
#include <cuda/matmul_support.hpp>

#if !defined(__CUDACC__)
#include <cuda/fakes/fake_device.hpp>
#endif

namespace {

using namespace qlr;
using namespace qlr::test;
using half = float16;

/// A product of 3 tokens that is accepted; tests spoil one operand.
struct small_product {
  packed_problem<half> packed{make_device_problem<half>("nf4", 32, 20, 64, 4, 3)};
  cuda::device_matrix<half> x{3, 64};
  cuda::device_matrix<half> y{3, 20};
  cuda::matmul_options<half> options{};

  [[nodiscard]] report check() const { return check(x.view(), const_y()); }
  template <class Y>
  [[nodiscard]] report check(cuda::device_view<const half> x_view, cuda::device_view<Y> y_view) const {
    return report_of(
        [&] { (void)device_matmul::chosen_variant<half, Y>(packed.weights, x_view, y_view, options); });
  }
  [[nodiscard]] cuda::device_view<half> const_y() const {
    return {const_cast<half*>(y.data()), y.rows(), y.cols()};
  }
};

} // namespace

TEST_CASE("fused_matmul: operands that do not fit are refused", "[cuda]") {
  if (!has_device()) return;
  small_product p;
  CHECK(p.check().message.empty());
  const cuda::device_view<const half> x = std::as_const(p.x).view();
  CHECK(p.check(cuda::device_view<const half>(x.data(), 3, 63, 64), p.const_y())
            .says(status_code::shape_mismatch, "X is 3 x 63, Q is 20 x 64"));
  CHECK(p.check(cuda::device_view<const half>(x.data(), 2, 64), p.const_y())
            .says(status_code::shape_mismatch, "Y is 3 x 20, it must be 2 x 20"));
  CHECK(p.check(x, cuda::device_view<half>(p.y.data(), 3, 19))
            .says(status_code::shape_mismatch, "Y is 3 x 19"));
  CHECK(p.check(cuda::device_view<const half>(nullptr, 3, 64), p.const_y())
            .says(status_code::invalid_argument, "X is a null pointer"));
  CHECK(p.check(x, cuda::device_view<half>(nullptr, 3, 20))
            .says(status_code::invalid_argument, "Y is a null pointer"));
  const auto* odd = reinterpret_cast<const half*>(reinterpret_cast<const char*>(x.data()) + 1);
  CHECK(p.check(cuda::device_view<const half>(odd, 3, 64), p.const_y())
            .says(status_code::invalid_argument, "X is not aligned to 2 bytes"));
  auto* unaligned = reinterpret_cast<float*>(reinterpret_cast<char*>(p.y.data()) + 2);
  CHECK(p.check(x, cuda::device_view<float>(unaligned, 3, 20))
            .says(status_code::invalid_argument, "Y is not aligned to 4 bytes"));
  const matrix<half> host(3, 64, half{});
  CHECK(p.check(cuda::device_view<const half>(host.data(), 3, 64), p.const_y())
            .says(status_code::invalid_argument, "X is not device memory"));
  const std::vector<float> host_bias(20);
  p.options.bias = host_bias.data();
  CHECK(p.check().says(status_code::invalid_argument, "bias is not device memory"));
  p.options.bias = nullptr;
  p.options.slices = -1;
  CHECK(p.check().says(status_code::invalid_argument, "slices is -1"));
  p.options.slices = 0;
  CHECK(p.check(cuda::device_view<const half>(nullptr, 0, 64), cuda::device_view<half>(nullptr, 0, 20))
            .message.empty()); // nothing to do
  std::string reason;
  CHECK(device_matmul::can_implement<half, half>(p.packed.weights, x, p.const_y(), p.options, &reason));
  CHECK(reason.empty());
  CHECK(!device_matmul::can_implement<half, half>(p.packed.weights, {nullptr, 3, 64}, p.const_y(), p.options,
                                                  &reason));
  CHECK(reason == "X is a null pointer");
}

TEST_CASE("fused_matmul: widths without kernels are refused", "[cuda]") {
  if (!has_device()) return;
  const small_product p;
  using wide = cuda::fused_matmul<test_launcher, 3, 8>;
  STATIC_REQUIRE(wide::has_kernels(8));
  STATIC_REQUIRE(!wide::has_kernels(4));
  STATIC_REQUIRE(cuda::fused_matmul<test_launcher>::has_kernels(2));
  const cuda::device_view<const half> x = p.x.view();
  CHECK(report_of([&] {
          (void)wide::chosen_variant<half, half>(p.packed.weights, x, p.const_y(), {});
        }).says(status_code::unsupported, "Q has codes of 4 bits, kernels were compiled for 3 8"));
  using narrow = cuda::fused_matmul<test_launcher, 4>;
  CHECK(narrow::chosen_variant<half, half>(p.packed.weights, x, p.const_y(), {}) == "decode_8");
}

TEST_CASE("fused_matmul: adapters that do not fit are refused", "[cuda]") {
  if (!has_device()) return;
  small_product p;
  const low_rank_part part = make_low_rank(20, 64, 2, 3);
  const low_rank_part wide = make_low_rank(20, 65, 2, 3);
  const cuda::packed_factors<half> adapter(part.left.view(), part.right.view(), part.scale);
  const cuda::packed_factors<half> other(wide.left.view(), wide.right.view(), wide.scale);
  const std::vector<const cuda::packed_factors<half>*> one{&adapter};
  const std::vector<const cuda::packed_factors<half>*> another{&other};
  const cuda::adapter_table<half> table(one);
  p.options.adapters = &table;
  CHECK(p.check().says(status_code::invalid_argument, "adapter_of_token is a null pointer"));
  const cuda::adapter_table<half> other_table(another);
  p.options.adapters = &other_table;
  CHECK(p.check().says(status_code::shape_mismatch, "the adapters are 20 x 65, Q is 20 x 64"));
  const std::vector<const cuda::packed_factors<half>*> mixed{&adapter, &other};
  CHECK(report_of([&] {
          cuda::adapter_table<half>{mixed};
        }).says(status_code::shape_mismatch, "adapter 1 is 20 x 65"));
  const std::vector<const cuda::packed_factors<half>*> null{nullptr};
  CHECK(report_of([&] {
          cuda::adapter_table<half>{null};
        }).says(status_code::invalid_argument, "adapter 0 is a null"));
  const cuda::adapter_table<half> none;
  p.options.adapters = &none;
  CHECK(p.check().message.empty());
}

TEST_CASE("fused_matmul: matrices that cannot be packed are refused", "[cuda]") {
  if (!has_device()) return;
  const auto p = make_device_problem<half>("nf4", 32, 20, 64, 4, 3);
  const auto pack = [&](const low_rank_part& part, std::span<const float> scales) {
    return report_of([&] {
      (void)cuda::prepack<half>(p.q.view(), part.left.view(), part.right.view(), part.scale, scales);
    });
  };
  CHECK(pack(p.base, {}).message.empty());
  CHECK(pack(make_low_rank(21, 64, 4, 1), {})
            .says(status_code::shape_mismatch, "L is 21 x 4 and R is 4 x 64, Q is 20"));
  low_rank_part spoiled = make_low_rank(20, 64, 4, 1);
  spoiled.right(1, 1) = std::numeric_limits<float>::infinity();
  CHECK(pack(spoiled, {}).says(status_code::non_finite, "R"));
  spoiled = make_low_rank(20, 64, 4, 1);
  spoiled.scale = std::numeric_limits<float>::quiet_NaN();
  CHECK(pack(spoiled, {}).says(status_code::non_finite, "scale is"));
  std::vector<float> scales(63, 1.0F);
  CHECK(pack(p.base, scales).says(status_code::shape_mismatch, "input_scales has 63 entries"));
  scales.assign(64, 1.0F);
  scales[7] = -2;
  CHECK(pack(p.base, scales).says(status_code::invalid_argument, "input_scales holds -2"));
  CHECK(report_of([] {
          (void)cuda::packed_image<half>(quantized_matrix_view{});
        }).says(status_code::invalid_argument, "Q is 0 x 0"));
}

TEST_CASE("fused_matmul: a forced variant must suit the operands", "[cuda]") {
  if (!has_device()) return;
  small_product p;
  p.options.variant = "decode_9";
  CHECK(p.check().says(status_code::invalid_argument,
                       "variant is 'decode_9', allowed here are decode_8, tokens_16"));
  p.options.variant = "decode_8";
  CHECK(p.check().message.empty());
  const cuda::device_view<const half> shifted(p.x.data() + 1, 2, 64, 65);
  const report refused = p.check(shifted, cuda::device_view<half>(p.y.data(), 2, 20));
  CHECK(
      refused.says(status_code::invalid_argument, "variant is 'decode_8', allowed here are decode_8_gather"));
  p.options.variant = "decode_8_gather";
  CHECK(p.check(shifted, cuda::device_view<half>(p.y.data(), 2, 20)).message.empty());
  p.options.variant = {};
  CHECK(device_matmul::chosen_variant<half, half>(p.packed.weights, shifted, {p.y.data(), 2, 20},
                                                  p.options) == "decode_8_gather");
  CHECK(device_matmul::chosen_variant<half, half>(p.packed.weights, std::as_const(p.x).view(), p.const_y(),
                                                  p.options) == "decode_8");

  // Zero points that are any number are not rounded to T, so prefill's operands do not suit them.
  const packed_problem<half> real_zeros(make_device_problem<half>("minmax4", 32, 20, 64, 0, 100));
  const cuda::device_matrix<half> x(100, 64);
  cuda::device_matrix<half> y(100, 20);
  CHECK(device_matmul::chosen_variant<half, half>(real_zeros.weights, x.view(), y.view(), {}) == "tokens_64");
  CHECK(!report_of([&] {
           (void)device_matmul::chosen_variant<half, half>(real_zeros.weights, x.view(), y.view(),
                                                           {.variant = "prefill_128"});
         }).message.empty());
}

#if !defined(__CUDACC__)
TEST_CASE("fused_matmul: devices before sm_80 are refused", "[cuda]") {
  small_product p;
  the_fake_device().compute_capability = 75;
  CHECK(p.check().says(status_code::unsupported, "compute capability 7.5"));
  CHECK(report_of([&] {
          (void)device_matmul::workspace_bytes<half>(p.packed.weights, 3);
        }).says(status_code::unsupported, "compute capability 7.5"));
  the_fake_device().compute_capability = 90;
}
#endif

TEST_CASE("make_plan: parts cover the reduction, and shared memory and counters suffice", "[cuda]") {
  using namespace qlr::cuda::detail;
  const cuda::device_properties devices[] = {{0, 80, 108, 163 * 1024, 40 << 20}, // A100
                                             {0, 89, 142, 99 * 1024, 96 << 20},  // L40
                                             {0, 90, 132, 227 * 1024, 50 << 20}};
  const auto check = [&]<int Bits, int Tokens>() {
    for (const cuda::device_properties& device : devices) {
      for (const index_t rows : {1, 1000, 4096, 14336}) {
        for (const index_t cols : {1, 100, 4096, 14336}) {
          for (const index_t tokens : {1, Tokens, 4096}) {
            packed_view weights;
            weights.rows = rows;
            weights.row_tiles = divide_up(rows, 16);
            weights.columns = make_column_map(cols, std::min<index_t>(cols, 128));
            weights.scale_steps = steps_per_scale(weights.columns);
            const matmul_plan plan =
                make_plan(weights, constants_of<Bits, tile_shape<Tokens>>(), false, tokens, 2, 0, device, 6);
            const matmul_schedule& schedule = plan.schedule;
            CAPTURE(Bits, Tokens, device.compute_capability, rows, cols, tokens);
            const index_t stages = divide_up(weights.columns.num_blocks, schedule.stage_blocks);
            CHECK(schedule.slices * schedule.slice_stages >= stages);
            CHECK((schedule.slices - 1) * schedule.slice_stages < stages);
            CHECK(schedule.right_slices * schedule.right_slice_stages >= divide_up(cols, 64));
            CHECK((schedule.right_slices - 1) * schedule.right_slice_stages < divide_up(cols, 64));
            CHECK(schedule.stages >= 2);
            CHECK(schedule.stages <= 6);
            CHECK(plan.launch.shared_bytes <= device.shared_bytes_per_block);
            const index_t tiles = schedule.token_tiles * schedule.row_tiles;
            CHECK((schedule.slices == 1 || tiles <= matmul_counters::most_split_tiles));
            CHECK((schedule.right_slices == 1 ||
                   schedule.token_tiles * 2 <= matmul_counters::most_split_tiles));
          }
        }
      }
    }
  };
  check.operator()<4, 8>();
  check.operator()<8, 16>();
  check.operator()<2, 32>();
  check.operator()<3, 64>();
  check.operator()<4, 128>();
}

TEST_CASE("make_plan: one token of a large layer keeps every multiprocessor and its memory busy", "[cuda]") {
  using namespace qlr::cuda::detail;
  const cuda::device_properties h100{0, 90, 132, 227 * 1024, 50 << 20};
  packed_view weights;
  weights.rows = 4096;
  weights.row_tiles = 256;
  weights.columns = make_column_map(4096, 128);
  const matmul_plan plan = make_plan(weights, constants_of<4, tile_shape<8>>(), false, 1, 1, 0, h100, 6);
  CHECK(plan.schedule.row_tiles * plan.schedule.slices >= 132);
  CHECK(plan.launch.blocks == 264);
  const index_t code_bytes = 8 * 2 * 512; // of a stage
  CHECK(2 * (plan.schedule.stages - 1) * code_bytes >= 32 * 1024);
}
