// SPDX-FileCopyrightText: 2026 The qlr authors
// SPDX-License-Identifier: MIT
#pragma once

// Test cases of the fused product that run for both types of X; each type has a program file of its own,
// because kernels take long to compile.
#include <cuda/matmul_support.hpp>

namespace qlr::test {

/// Variants that may run a problem whose X lies as `place` says.
template <class T>
std::vector<std::string_view> allowed_variants(const device_problem<T>& p) {
  const auto map = cuda::detail::make_column_map(p.q.cols(), p.q.layout().group_cols());
  std::vector<std::string_view> names;
  for (const auto& each : cuda::detail::matmul_variants) {
    if (each.group_tiles > 0) continue; // they have tests of their own
    if (!map.is_identity() && !each.gathers) continue;
    if (p.q.layout().zeros == zero_point::real && each.scales_operands) continue;
    names.push_back(each.name);
  }
  return names;
}

/// The kernel that ran last belongs to a variant.
inline void check_launched([[maybe_unused]] std::string_view variant) {
#if !defined(__CUDACC__)
  const std::string& kernel = launched_kernels().back();
  const std::string_view tile = variant.substr(0, variant.find("_gather"));
  CAPTURE(kernel, variant);
  CHECK(kernel == "fused_matmul_" + std::string(tile));
#endif
}

/// Every format and grouping, by the variants that differ in how they scale.
template <class T>
void check_formats() {
  double worst = 0;
  for (const std::string_view format : {"sign", "int2", "nf3", "int3", "nf4", "uint4", "minmax4", "fp4",
                                        "mxint4", "q4_0", "int6", "int8", "nf8"}) {
    for (const index_t group : {64, 16, 10}) {
      if (find_format(format).is_fixed && group != 64) continue;
      const auto p = make_device_problem<T>(format, group, 35, 150, 5, 6);
      for (const std::string_view variant : allowed_variants(p)) {
        if (variant.starts_with("tokens_32") || variant.starts_with("tokens_16"))
          continue; // as decode and 64
        const bool gathers = variant.ends_with("_gather");
        if (gathers && allowed_variants(p).size() > 5) continue; // it has tests of its own
        worst = std::max(worst, check_device_product(p, {variant}));
        check_launched(variant);
      }
    }
  }
  INFO("worst error over its bound: " << worst);
  CHECK(worst > 0);
}

/// Group sizes around steps, blocks and rows.
template <class T>
void check_groups() {
  for (const index_t group : {16, 32, 48, 64, 96, 128, 100, 10, 1, 0, -1}) {
    for (const std::string_view format : {"int4", "uint3"}) {
      const auto p = make_device_problem<T>(format, group, 33, 200, 3, 10);
      for (const std::string_view variant :
           {"tokens_16", "prefill_128", "decode_8_gather", "tokens_64_gather"}) {
        const auto allowed = allowed_variants(p);
        if (std::find(allowed.begin(), allowed.end(), variant) == allowed.end()) continue;
        check_device_product(p, {variant});
      }
    }
  }
}

/// Shapes around tiles, with the variant that is chosen.
template <class T>
void check_shapes() {
  const struct {
    index_t tokens;
    std::string_view variant;
  } choices[] = {{1, "decode_8"},     {7, "decode_8"},     {8, "decode_8"},   {9, "tokens_16"},
                 {16, "tokens_16"},   {17, "tokens_32"},   {63, "tokens_64"}, {64, "tokens_64"},
                 {65, "prefill_128"}, {130, "prefill_128"}};
  for (const auto& choice : choices) {
    const auto p = make_device_problem<T>("nf4", 32, 18, 130, 17, choice.tokens);
    const cuda::detail::variant_limits limits{false, false, 80};
    CHECK(cuda::detail::choose_variant(limits, choice.tokens).name == choice.variant);
    check_device_product(p, {choice.variant});
  }
  for (const auto& [rows, cols] : {std::pair<index_t, index_t>{1, 1},
                                   {1, 17},
                                   {17, 1},
                                   {16, 64},
                                   {15, 63},
                                   {129, 65},
                                   {128, 128},
                                   {130, 70},
                                   {257, 129},
                                   {48, 321}}) {
    for (const std::string_view variant : {"decode_8", "prefill_128", "tokens_32_gather"}) {
      const auto p = make_device_problem<T>("int8", 0, rows, cols, 2, 3);
      check_device_product(p, {variant});
    }
  }
  for (const index_t rank : {0, 1, 15, 16, 17, 24, 64, 65, 130}) {
    for (const std::string_view variant : {"decode_8", "tokens_64", "prefill_128"}) {
      const auto p = make_device_problem<T>("nf4", 64, 40, 192, rank, 9);
      check_device_product(p, {variant});
    }
  }
}

/// Everything that a call may ask for at once.
template <class T>
device_problem<T> make_full_problem(index_t tokens) {
  auto p = make_device_problem<T>("uint4", 32, 150, 200, 20, tokens);
  for (const index_t rank : {16, 1, 70})
    p.adapters.push_back(make_low_rank(150, 200, rank, 40 + static_cast<std::uint64_t>(rank)));
  for (index_t t = 0; t < tokens; ++t) // adapter 1 is named rarely, so most tiles skip it
    p.adapter_of_token.push_back(t == 5 ? 1 : t % 3 == 0 ? -1 : t % 3 == 1 ? 2 : t < 30 ? 0 : 77);
  random_source random(8);
  for (index_t i = 0; i < 150; ++i) p.bias.push_back(static_cast<float>(random.normal()));
  for (index_t j = 0; j < 200; ++j)
    p.input_scales.push_back(static_cast<float>(std::exp2(random.between(-4, 4))));
  return p;
}

template <class T>
void check_everything_at_once() {
  const auto p = make_full_problem<T>(37);
  for (const std::string_view variant : allowed_variants(p)) check_device_product(p, {variant});
  for (const index_t slices : {2, 3, 100}) check_device_product(p, {"decode_8", slices});
  check_device_product(p, {"prefill_128", 2});
  check_device_product(p, {"tokens_16_gather", 2});
}

/// Where X and Y lie.
template <class T>
void check_placements() {
  const auto p = make_device_problem<T>("nf4", 64, 20, 77, 4, 11);
  for (const std::string_view variant : {"decode_8", "prefill_128"}) {
    check_device_product(p, {variant, 0, {.x_padding = 8}});
    check_device_product(p, {variant, 0, {.x_offset = 8, .x_padding = 800, .y_padding = 1000}});
  }
  for (const std::string_view variant : {"decode_8_gather", "tokens_64_gather", "prefill_128_gather"}) {
    check_device_product(p, {variant, 0, {.x_offset = 1}});
    check_device_product(p, {variant, 0, {.x_padding = 3, .y_padding = 7}});
    check_device_product(p, {variant, 0, {.x_is_transposed = true}});
    check_device_product(p, {variant}); // aligned: allowed, though never chosen
  }
  check_device_product(p, {"", 0, {.x_offset = 1}});
  check_launched("tokens_16");
}

/// Same bits for any order of threads and number of blocks, and after other products in the same workspace.
template <class T>
void check_determinism() {
  const auto p = make_full_problem<T>(20);
  const packed_problem<T> packed(p);
  const auto other = make_device_problem<T>("nf4", 32, 300, 130, 3, 9);
  const packed_problem<T> other_packed(other);
  for (const std::string_view variant : {"decode_8", "prefill_128"}) {
    cuda::matmul_options<T> options = packed.options();
    options.variant = variant;
    options.slices = 2;
    cuda::matmul_workspace workspace(std::max(device_matmul::workspace_bytes<T>(packed.weights, 20, options),
                                              device_matmul::workspace_bytes<T>(other_packed.weights, 9)));
    std::optional<matrix<double>> first;
    const auto check = [&] {
      const device_output y = run_product<T, float>(packed, p.x, options, workspace);
      if (!first) first = y.values;
      CHECK(has_same_values(y.values, *first));
    };
    in_every_order(check);
#if !defined(__CUDACC__)
    for (const index_t blocks : {1, 2, 7}) {
      current_simulation().resident_blocks = blocks;
      check();
    }
    current_simulation() = {};
#endif
    (void)run_product<T, float>(other_packed, other.x, other_packed.options(), workspace);
    check();
  }
}

/// Numbers at the edges of fp16 and of fp32.
template <class T>
void check_extremes() {
  auto p = make_device_problem<T>("int4", 32, 20, 96, 8, 5);
  for (index_t i = 0; i < p.x.size(); i += 7) p.x.data()[i] = cuda::detail::round_to_half<T>(60000.0F);
  for (index_t i = 0; i < p.base.right.size(); ++i) p.base.right.data()[i] *= 1e3F; // R x beyond fp16
  for (index_t i = 0; i < p.base.left.size(); ++i) p.base.left.data()[i] *= 1e-6F;  // L below it
  for (const std::string_view variant : {"decode_8", "prefill_128"}) {
    const packed_problem<T> packed(p);
    cuda::matmul_options<T> options = packed.options();
    options.variant = variant;
    cuda::matmul_workspace workspace(device_matmul::workspace_bytes<T>(packed.weights, 5, options));
    const device_output y = run_product<T, float>(packed, p.x, options, workspace);
    CHECK(worst_ratio(y.values, slow_device_product(p, variant == "prefill_128", false)) <= 1.0);
  }
  for (const float size : {1e-30F, 1e-9F, 1e20F}) { // scales far from 1
    matrix<float> weight = normal_matrix(17, 64, 3);
    for (index_t i = 0; i < weight.size(); ++i) weight.data()[i] *= size;
    for (index_t j = 0; j < 64; ++j) weight(4, j) = 0;
    auto q = make_device_problem<T>("nf4", 32, 17, 64, 0, 3);
    const matrix<float>& constant = weight;
    q.q = quantize(constant.view(),
                   make_quantizer("nf4", {.group_size = 32,
                                          .scales = scale_format{scale_coding::plain, scale_type::fp32}}));
    for (const std::string_view variant : {"decode_8", "prefill_128"}) {
      const packed_problem<T> packed(q);
      cuda::matmul_options<T> options = packed.options();
      options.variant = variant;
      cuda::matmul_workspace workspace(device_matmul::workspace_bytes<T>(packed.weights, 3, options));
      const device_output y = run_product<T, float>(packed, q.x, options, workspace);
      CAPTURE(size, variant);
      CHECK(worst_ratio(y.values, slow_device_product(q, variant == "prefill_128", false)) <= 1.0);
      CHECK(y.values(0, 4) == 0.0);
    }
  }
}

} // namespace qlr::test
