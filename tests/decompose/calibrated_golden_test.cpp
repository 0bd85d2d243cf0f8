// SPDX-FileCopyrightText: 2026 The qlr authors
// SPDX-License-Identifier: MIT
#include <qlr/decompose/decomposer.hpp>
#include <qlr/host/backend.hpp>
#include <qlr/host/calibration.hpp>
#include <qlr/host/method_metric.hpp>

#include <decompose/golden_support.hpp>
#include <support/catch.hpp>
#include <support/decompose.hpp>

#include <algorithm>
#include <cmath>
#include <cstdio>
#include <string>
#include <vector>

using namespace qlr;
using namespace qlr::test;

namespace {

const calibration_data& golden_calibration() {
  static const calibration_data data = [] {
    calibration_data result;
    result.activations = golden_inputs().read_matrix("X");
    host::complete(result);
    return result;
  }();
  return data;
}

metric metric_for(std::string_view method) {
  const preset& found = find_preset(method);
  const metric_kind kind = metric_kind_of(found.uses, golden_calibration());
  return make_method_metric(kind, found, golden_calibration(), golden_weight().rows(),
                            golden_weight().cols());
}

/// "... rank R".
index_t rank_of(const golden_row& row) {
  return std::stol(row.setting.substr(row.setting.find("rank ") + 5));
}

any_quantizer block_quantizer(const golden_row& row) {
  if (mentions(row, "lqer block_fp")) return named("bfp4", {16, {}, false});
  return named(mentions(row, "mxint3") ? "mxint3" : "mxint4", {32, {}, false});
}

/// Factors rounded as CALDERA without lattices does: to integers of the largest magnitude of the whole
/// factor.
class per_tensor_backend : public host::eigen_backend {
public:
  explicit per_tensor_backend(int bits) : bits_(bits) {}

  void store_factor(matrix<float>& factor, factor_storage /*storage*/) const {
    if (bits_ >= 16) return; // the original leaves them as they are
    float largest = 0;
    for (index_t i = 0; i < factor.size(); ++i) largest = std::max(largest, std::fabs(factor.data()[i]));
    const auto top = static_cast<float>((1 << (bits_ - 1)) - 1);
    for (index_t i = 0; i < factor.size() && largest > 0; ++i)
      factor.data()[i] = std::nearbyint(factor.data()[i] / largest * top) / top * largest;
  }

private:
  int bits_;
};

} // namespace

TEST_CASE("golden: l2qer, qera-approx and qera-exact equal their authors' one-shot SVD",
          "[decompose][golden][slow]") {
  if (!has_golden_data()) return;
  int num_rows = 0;
  for (const char* const method : {"l2qer", "qera-approx", "qera-exact"}) {
    for (const golden_row& row : golden_rows(method)) {
      ++num_rows;
      compare(row, run_exact(method, block_quantizer(row), rank_of(row), {}, metric_for(method)), 1e-4);
    }
  }
  CHECK(num_rows == 18);
}

TEST_CASE("golden: caldera equals its authors' loop without lattices", "[decompose][golden][slow]") {
  if (!has_golden_data()) return;
  const any_quantizer quantizer = named("int4", {group_per_tensor, fp32_scales, false});
  const metric weights = metric_for("caldera");
  const std::vector<golden_row> rows = golden_rows("caldera");
  REQUIRE(rows.size() == 3);
  for (const golden_row& row : rows) {
    CAPTURE(row.setting);
    const int bits = mentions(row, "factors 16") ? 16 : mentions(row, "factors 8") ? 8 : 4;
    const per_tensor_backend backend(bits);
    decompose_options options = options_of("caldera", 16, factor_storage::int8, svd_method::exact);
    options.steps.iterations = 10;
    options.steps.step = quantize_step::nearest; // the original has LDLQ for lattices only
    const matrix_view<const float> weight = golden_weight().view();
    const decompose_result result =
        to_host(backend, decomposer(backend, weight, quantizer, weights, options).run(), options.factors);
    const errors found = errors_of(result.best);
    print(row, found, result);
    // A chaotic loop: 0.5 %. Four bits for a whole factor leave so much to chance that only the upper bound
    // holds.
    CHECK(found.output <= 1.005 * row.expected.output);
    if (bits > 4) CHECK(found.output >= 0.995 * row.expected.output);
    CHECK(is_near(result.weighted_error, found.output, 1e-4 * found.output));
  }
}

TEST_CASE("golden: with activations best beats qera-exact by the bars of the design",
          "[decompose][golden][slow]") {
  if (!has_golden_data()) return;
  for (const auto& [format, bar] : {std::pair{"nf4", 0.66}, {"nf3", 0.64}, {"nf2", 0.58}}) {
    const auto error = [&, name = format](std::string_view method) {
      return errors_of(split(golden_weight().view(), named(name),
                             options_of(method, 16, factor_storage::fp16), metric_for(method))
                           .best)
          .output;
    };
    const double best = error("best");
    const double qera = error("qera-exact");
    std::printf("%s: best %.6f, qera-exact %.6f, ratio %.4f, bar %.2f\n", format, best, qera, best / qera,
                bar);
    CHECK(best <= bar * qera);
  }
}

TEST_CASE("golden: with a covariance best is at or below every other method", "[decompose][golden][slow]") {
  if (!has_golden_data()) return;
  for (const char* const format : {"nf4", "int3", "nf2"}) {
    double best = 0;
    for (const std::string_view method : {"best", "gptq", "qera-exact", "eora", "caldera", "svdquant", "srr",
                                          "odlri", "gptq-intrinsic", "qera-approx", "l2qer", "loftq"}) {
      CAPTURE(std::string(method), format);
      decompose_options options = options_of(method, 16, factor_storage::fp16);
      options.smoothing.largest = golden_calibration().largest;
      const decompose_result result =
          split(golden_weight().view(), named(format), options, metric_for(method));
      const double found = errors_of(result.best).output;
      if (method == "best") best = found;
      CHECK(best <= found);
    }
  }
}
