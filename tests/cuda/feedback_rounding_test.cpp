// SPDX-FileCopyrightText: 2026 The qlr authors
// SPDX-License-Identifier: MIT
#include <cuda/support.hpp>
#include <host/covariance_oracles.hpp>
#include <qlr/cuda/detail/column_rounder.hpp>
#include <qlr/cuda/detail/coupling.hpp>
#include <qlr/host/coupled_rounding.hpp>
#include <qlr/quant/formats.hpp>
#include <support/catch.hpp>
#include <support/generators.hpp>

#include <span>

using namespace qlr;
using namespace qlr::test;

namespace {

template <class Grid, class Quantizer>
void try_it(const Quantizer& quantizer, index_t rows, index_t cols, column_order order, int descents) {
  const matrix<float> w = weight_like_matrix(rows, cols, 1);
  const matrix<double> h = slow_covariance(correlated_inputs(2 * cols + 4, cols, 2));
  const feedback_options options{.order = order, .descents = descents};
  const host::column_coupling expected_coupling = host::make_coupling(
      input_covariance{matrix<double>(h), {}, 0, 0, 0}, matrix<float>(0, cols), options, coupling_use::feedback, {});
  const quantized_matrix expected = host::round_with_feedback(quantizer, w, expected_coupling, {}, descents, {});

  cuda::context on;
  const auto h_device = cuda::to_device(h.view());
  const auto none = cuda::device_matrix<float>(0, cols);
  const auto coupling =
      cuda::make_coupling<test_launcher>(on, h_device.view(), none.view(), options, coupling_use::feedback);
  const fitted_scales scales = quantizer.fit_scales(w.view(), {}, {});
  const auto blocks = cuda::to_device(std::span<const block_scale>(scales.blocks));
  const auto w_device = cuda::to_device(w.view());
  const quantized_layout layout = quantizer.layout(rows, cols);
  cuda::detail::column_rounder<test_launcher, Grid> rounder(on, quantizer.grid(), w_device.view(), layout,
                                                           blocks.data(), coupling);
  rounder.feed_back();
  for (int i = 0; i < descents; ++i) rounder.descend();
  const matrix<code_t> codes = cuda::to_host(rounder.codes());
  index_t differing = 0;
  for (index_t i = 0; i < rows; ++i)
    for (index_t j = 0; j < cols; ++j) differing += codes(i, j) != expected.view().code(i, j) ? 1 : 0;
  CAPTURE(rows, cols, descents);
  CHECK(differing * 100 <= rows * cols);
  if (differing > 0) std::printf("%d of %d\n", (int)differing, (int)(rows * cols));
}
} // namespace

TEST_CASE("trial", "[cuda]") {
  quantizer_options options;
  options.group_size = 16;
  options.allow_short_group = true;
  const quantizer<uniform_grid<>, absmax_rule> integers("int4", signed_grid(4), absmax_rule{}, options);
  const quantizer<codebook_grid<4>, absmax_rule> nf4("nf4", codebook_grid<4>(normal_float_levels(4)),
                                                     absmax_rule{}, options);
  in_every_order([&] {
    for (const int descents : {0, 2}) {
      for (const column_order order : {column_order::ascending, column_order::descending, column_order::importance}) {
        for (const auto& [m, n] : {std::pair<index_t, index_t>{1, 1}, {5, 7}, {17, 130}, {33, 64}, {3, 259}}) {
          try_it<uniform_grid<>>(integers, m, n, order, descents);
          try_it<codebook_grid<4>>(nf4, m, n, order, descents);
        }
      }
    }
  });
}
