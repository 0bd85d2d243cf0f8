// SPDX-FileCopyrightText: 2026 The qlr authors
// SPDX-License-Identifier: MIT
#include <cuda/support.hpp>
#include <host/covariance_oracles.hpp>
#include <qlr/cuda/coupled_rounding.hpp>
#include <support/catch.hpp>
#include <support/feedback.hpp>
#include <support/generators.hpp>
#include <support/oracles.hpp>

#include <cmath>
#include <string_view>
#include <utility>
#include <vector>

using namespace qlr;
using namespace qlr::test;

namespace {

/// What is rounded, and in which metric.
struct problem {
  matrix<float> weight;  // (m,n)
  matrix<double> values; // H (n,n)
  matrix<float> right;   // (r,n)
  feedback_options options{};

  problem(index_t rows, index_t cols, const feedback_options& feedback, index_t tokens = 0, index_t rank = 0)
      : weight(weight_like_matrix(rows, cols, 1)),
        values(slow_covariance(correlated_inputs(tokens > 0 ? tokens : 2 * cols + 4, cols, 2))),
        right(normal_matrix(rank, cols, 3)), options(feedback) {}
};

input_covariance covariance_of(const problem& given) {
  return {matrix<double>(given.values), {}, 0, 0, 0};
}

quantized_matrix feed_back_on_host(const any_quantizer& quantizer, const problem& given) {
  return feed_back(quantizer, given.weight, covariance_of(given), given.right, given.options);
}

quantized_matrix descend_on_host(const any_quantizer& quantizer, const quantized_matrix& q,
                                 const problem& given, int passes) {
  return descend(quantizer, q, given.weight, covariance_of(given), given.right, passes, {}, given.options);
}

/// A matrix in device memory inside of larger rows.
class spread_matrix {
public:
  explicit spread_matrix(const matrix<float>& x) : rows_(x.rows()), cols_(x.cols()) {
    matrix<float> wide(x.rows(), x.cols() + 3, std::nanf(""));
    for (index_t i = 0; i < x.rows(); ++i) {
      for (index_t j = 0; j < x.cols(); ++j) wide(i, j + 1) = x(i, j);
    }
    memory_ = cuda::to_device(wide.view());
  }
  [[nodiscard]] cuda::device_view<const float> view() const {
    return {memory_.size() == 0 ? nullptr : memory_.data() + 1, rows_, cols_, cols_ + 3};
  }

private:
  cuda::device_matrix<float> memory_;
  index_t rows_;
  index_t cols_;
};

/// The same in device memory.
struct device_problem {
  cuda::context on;
  spread_matrix weight;
  cuda::device_coupling coupling;

  device_problem(const problem& given, coupling_use use)
      : weight(given.weight), coupling(couple(on, given, use)) {}

  static cuda::device_coupling couple(const cuda::context& on, const problem& given, coupling_use use) {
    const auto values = cuda::to_device(given.values.view());
    const auto right = cuda::to_device(given.right.view());
    return cuda::make_coupling<test_launcher>(on, values.view(), right.view(), given.options, use);
  }
};

quantized_matrix feed_back(const any_quantizer& quantizer, const device_problem& given, int descents) {
  const auto importance = cuda::to_device(std::span<const float>(given.coupling.importance));
  return cuda::to_host(cuda::round_with_feedback_async<test_launcher>(
      given.on, quantizer, given.weight.view(), given.coupling, {importance.data()}, descents));
}

quantized_matrix feed_back(const any_quantizer& quantizer, const problem& given) {
  return feed_back(quantizer, device_problem(given, coupling_use::feedback), given.options.descents);
}

quantized_matrix descend(const any_quantizer& quantizer, const quantized_matrix& q,
                         const device_problem& given, int passes) {
  return cuda::to_host(cuda::round_by_descent_async<test_launcher>(
      given.on, quantizer, cuda::to_device(q), given.weight.view(), given.coupling, passes));
}

any_quantizer groups_of(std::string_view format, index_t size) {
  return make_quantizer(format, {size, std::nullopt, false});
}

double error_of(const quantized_matrix& q, const problem& given) {
  return slow_energy(slow_difference(given.weight, dequantize(q)), given.values);
}

/// Sums in another order move a target by some units in its last place, which changes a code once in about
/// 10^5 elements; what follows in that row may then differ too, by choices that are as good.
void check_same(const quantized_matrix& found, const quantized_matrix& expected, const problem& given) {
  REQUIRE(found.rows() == expected.rows());
  REQUIRE(found.cols() == expected.cols());
  CHECK(found.format_name() == expected.format_name());
  CHECK(found.levels() == expected.levels());
  CHECK(found.scales().codes == expected.scales().codes);
  CHECK(found.scales().supers == expected.scales().supers);
  CHECK(found.zeros() == expected.zeros());
  index_t num_equal = 0;
  for (index_t i = 0; i < found.rows(); ++i) {
    for (index_t j = 0; j < found.cols(); ++j)
      num_equal += found.view().code(i, j) == expected.view().code(i, j) ? 1 : 0;
  }
  CHECK(static_cast<double>(num_equal) >= 0.98 * static_cast<double>(found.rows() * found.cols()));
  CHECK(error_of(found, given) == Approx(error_of(expected, given)).epsilon(1e-3).margin(1e-12));
}

} // namespace

TEST_CASE("device feedback: as on the host, for formats and groups", "[cuda]") {
  if (!has_device()) return;
  for (const int descents : {0, 2}) {
    const problem given(18, 70, {.descents = descents});
    const device_problem on_device(given, coupling_use::feedback);
    for (const std::string_view format :
         {"int4", "nf4", "int2", "uint4", "mxint4", "minmax2", "sign", "fp4", "nf8"}) {
      for (const index_t group : {index_t{16}, index_t{64}, group_per_row, group_per_tensor}) {
        CAPTURE(format, group, descents);
        const any_quantizer quantizer = groups_of(format, group);
        check_same(feed_back(quantizer, on_device, descents), feed_back_on_host(quantizer, given), given);
      }
    }
  }
}

TEST_CASE("device feedback: every order of columns and threads", "[cuda]") {
  if (!has_device()) return;
  const any_quantizer quantizer = groups_of("nf3", 16);
  for (const column_order order :
       {column_order::ascending, column_order::descending, column_order::importance}) {
    // One column in the second block, which errors of the first reach.
    const problem given(17, 129, {.order = order, .descents = 1});
    const device_problem on_device(given, coupling_use::feedback);
    const quantized_matrix expected = feed_back_on_host(quantizer, given);
    in_every_order([&] {
      CAPTURE(static_cast<int>(order));
      check_same(feed_back(quantizer, on_device, 1), expected, given);
    });
  }
}

TEST_CASE("device feedback: shapes off every block", "[cuda]") {
  if (!has_device()) return;
  using shape = std::pair<index_t, index_t>;
  for (const auto& [rows, cols] :
       {shape{1, 1}, shape{40, 1}, shape{1, 7}, shape{16, 128}, shape{33, 127}, shape{2, 257}}) {
    for (const int descents : {0, 2}) {
      CAPTURE(rows, cols, descents);
      const problem given(rows, cols, {.order = column_order::importance, .descents = descents});
      const any_quantizer quantizer = groups_of("nf4", std::min<index_t>(cols, 16));
      check_same(feed_back(quantizer, given), feed_back_on_host(quantizer, given), given);
    }
  }
}

TEST_CASE("device feedback: fewer tokens than channels, and a low-rank part that is known", "[cuda]") {
  if (!has_device()) return;
  const any_quantizer quantizer = groups_of("int2", 16);
  for (const index_t rank : {index_t{0}, index_t{5}}) {
    CAPTURE(rank);
    const problem given(20, 48, {.descents = 2, .factor_noise = 1e-3}, 11, rank);
    const quantized_matrix found = feed_back(quantizer, given);
    check_same(found, feed_back_on_host(quantizer, given), given);
    if (rank == 0) // the point of it all
      CHECK(error_of(found, given) < 0.5 * error_of(quantizer.quantize(given.weight.view(), {}, {}), given));
  }
}

TEST_CASE("device feedback: scales are searched for where that is asked for", "[cuda]") {
  if (!has_device()) return;
  const any_quantizer quantizer = make_quantizer("int3", {16, std::nullopt, true});
  const problem given(9, 48, {});
  const quantized_matrix found = feed_back(quantizer, given);
  check_same(found, feed_back_on_host(quantizer, given), given);
  CHECK(found.scales().codes != feed_back(groups_of("int3", 16), given).scales().codes);
}

TEST_CASE("device descent: as on the host, and no pass raises the error", "[cuda]") {
  if (!has_device()) return;
  const problem given(19, 140, {});
  const device_problem on_device(given, coupling_use::descent);
  for (const std::string_view format : {"int4", "nf4", "int2", "uint4", "mxint4"}) {
    for (const index_t group : {index_t{16}, group_per_row}) {
      CAPTURE(format, group);
      const any_quantizer quantizer = groups_of(format, group);
      const quantized_matrix nearest = quantizer.quantize(given.weight.view(), {}, {});
      double before = error_of(nearest, given);
      for (const int passes : {1, 3}) {
        const quantized_matrix found = descend(quantizer, nearest, on_device, passes);
        check_same(found, descend_on_host(quantizer, nearest, given, passes), given);
        CHECK(error_of(found, given) < before);
        before = error_of(found, given);
      }
    }
  }
}

TEST_CASE("device descent: scales of every storage stay as they are", "[cuda]") {
  if (!has_device()) return;
  const problem given(17, 48, {.order = column_order::importance});
  const device_problem on_device(given, coupling_use::descent);
  for (const scale_format& scales : {scale_format{scale_coding::plain, scale_type::bf16},
                                     double_quantized(4, scale_type::fp16, 8), nested_bitsandbytes()}) {
    CAPTURE(to_string(scales));
    const any_quantizer quantizer = make_quantizer("nf4", {16, scales, false});
    const quantized_matrix nearest = quantizer.quantize(given.weight.view(), {}, {});
    const quantized_matrix found = descend(quantizer, nearest, on_device, 2);
    check_same(found, descend_on_host(quantizer, nearest, given, 2), given);
    CHECK(found.scales().base == nearest.scales().base);
  }
}

TEST_CASE("device feedback: every packing", "[cuda]") {
  if (!has_device()) return;
  const problem given(5, 64, {.order = column_order::descending, .descents = 1});
  for (const std::string_view format : {"q4_0", "iq4_nl", "nvfp4", "int5"}) {
    CAPTURE(format);
    const any_quantizer quantizer = make_quantizer(format);
    check_same(feed_back(quantizer, given), feed_back_on_host(quantizer, given), given);
  }
}

TEST_CASE("device feedback: nothing to round", "[cuda]") {
  if (!has_device()) return;
  for (const auto& [rows, cols] : {std::pair<index_t, index_t>{0, 20}, {4, 0}}) {
    CAPTURE(rows, cols);
    const problem given(rows, cols, {.descents = 1});
    const quantized_matrix found = feed_back(make_quantizer("int4"), given);
    CHECK(found.rows() == rows);
    CHECK(found.cols() == cols);
  }
}

TEST_CASE("device feedback: what cannot be done is refused", "[cuda]") {
  if (!has_device()) return;
  const problem given(4, 20, {});
  const device_problem on_device(given, coupling_use::feedback);
  const cuda::context& on = on_device.on;
  const any_quantizer quantizer = groups_of("int4", 16);
  const cuda::device_coupling& feedback = on_device.coupling;
  const cuda::device_coupling descent = device_problem::couple(on, given, coupling_use::descent);
  const auto round = [&](const any_quantizer& by, const cuda::device_coupling& coupling, int descents) {
    return cuda::round_with_feedback_async<test_launcher>(on, by, on_device.weight.view(), coupling, {},
                                                          descents);
  };
  struct whole_quantizer { // not stepwise
    [[nodiscard]] static std::string name() { return "whole"; }
    [[nodiscard]] static quantized_layout layout(index_t rows, index_t cols) {
      quantized_layout result;
      result.rows = rows;
      result.cols = cols;
      return result;
    }
    [[nodiscard]] static quantized_matrix quantize(matrix_view<const float>, const quantize_hints&,
                                                   const executor&) {
      return {};
    }
  };
  CHECK_THROWS_AS(round(whole_quantizer{}, feedback, 0), qlr::error);
  CHECK_THROWS_AS(round(quantizer, descent, 0), qlr::error);
  CHECK_THROWS_AS(round(quantizer, feedback, 1), qlr::error);
  CHECK_THROWS_AS(round(quantizer, device_problem::couple(on, problem(4, 24, {}), coupling_use::feedback), 0),
                  qlr::error);

  const auto q = cuda::to_device(quantizer.quantize(given.weight.view(), {}, {}));
  const auto descend_from = [&](const cuda::device_coupling& coupling, int passes) {
    return cuda::round_by_descent_async<test_launcher>(on, quantizer, q, on_device.weight.view(), coupling,
                                                       passes);
  };
  CHECK_THROWS_AS(descend_from(descent, 0), qlr::error);
  CHECK_THROWS_AS(descend_from(feedback, 1), qlr::error);
  const spread_matrix other(normal_matrix(5, 20, 1));
  CHECK_THROWS_AS(cuda::round_by_descent_async<test_launcher>(on, quantizer, q, other.view(), descent, 1),
                  qlr::error);
}
