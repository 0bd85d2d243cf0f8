// SPDX-FileCopyrightText: 2026 The qlr authors
// SPDX-License-Identifier: MIT
#include <support/adapter.hpp>
#include <support/catch.hpp>
#include <support/golden.hpp>
#include <support/oracles.hpp>

#include <nlohmann/json.hpp>

#include <cmath>
#include <cstdio>
#include <fstream>
#include <string>

using namespace qlr;
using namespace qlr::test;

namespace {

const matrix<float>& golden_left() {
  static const matrix<float> left = golden_inputs().read_matrix("lora_B");
  return left;
}
const matrix<float>& golden_right() {
  static const matrix<float> right = golden_inputs().read_matrix("lora_A");
  return right;
}

adapter_result golden_adapter(const adapter_options& options) {
  return quantize_adapter(golden_left().view(), golden_right().view(), options);
}

/// Rows of golden_errors.json for one method.
nlohmann::json rows_of(const std::string& method) {
  std::ifstream file(golden_folder() + "/golden_errors.json");
  nlohmann::json rows = nlohmann::json::array();
  for (const nlohmann::json& row : nlohmann::json::parse(file)) {
    if (row.at("method") == method) rows.push_back(row);
  }
  return rows;
}

} // namespace

TEST_CASE("quantize_adapter: the errors and average bits of LoRAQuant's code", "[decompose][golden]") {
  if (!has_golden_data()) return;
  int compared = 0;
  for (const nlohmann::json& row : rows_of("loraquant")) {
    const std::string setting = row.at("setting");
    CAPTURE(setting);
    int bits = 0;
    double ratio = 0;
    REQUIRE(std::sscanf(setting.c_str(), "%d@%lf", &bits, &ratio) == 2);
    adapter_options options = loraquant_options(bits, ratio);
    const auto expected = row.at("rel_fro").get<double>();
    const bool is_descent = setting.find("SGD") != std::string::npos;
    if (is_descent) options.refinement = adapter_refinement::sgd;
    const adapter_result result = golden_adapter(options);
    CHECK(result.adapter.bits_without_scales() == row.at("avg_bits_no_scales").get<double>());
    if (is_descent) {
      CHECK(result.relative_error <= expected); // the best step counts here, the last one there
      CHECK(result.relative_error > 0.99 * expected);
    } else {
      CHECK(is_near(result.relative_error, expected, 1e-4 * expected));
      const matrix<double> product =
          slow_product(dequantize_left(result.adapter), dequantize_right(result.adapter));
      char name[40];
      std::snprintf(name, sizeof name, "loraquant.%d_%.1f.BA", bits, ratio);
      const std::vector<float> theirs = golden_values<float>(name);
      double largest = 0;
      double difference = 0;
      for (std::size_t i = 0; i < theirs.size(); ++i) {
        largest = std::max(largest, std::fabs(product.data()[i]));
        difference = std::max(difference, std::fabs(product.data()[i] - static_cast<double>(theirs[i])));
      }
      CHECK(difference < 1e-5 * largest); // two float SVDs: a few units in the last place of the vectors
    }
    ++compared;
  }
  CHECK(compared == 6);
}

TEST_CASE("quantize_adapter: the errors of plain rounding of an adapter", "[decompose][golden]") {
  if (!has_golden_data()) return;
  int compared = 0;
  for (const nlohmann::json& row : rows_of("adapter rtn")) {
    const std::string setting = row.at("setting");
    CAPTURE(setting);
    adapter_options options = loraquant_options(std::stoi(setting), 1.0);
    options.basis = adapter_basis::given;
    const auto expected = row.at("rel_fro").get<double>();
    CHECK(is_near(golden_adapter(options).relative_error, expected, 1e-4 * expected));
    ++compared;
  }
  CHECK(compared == 4);
}

TEST_CASE("quantize_adapter: least squares is below 300 steps of gradient descent at equal bits",
          "[decompose][golden]") {
  if (!has_golden_data()) return;
  adapter_options options = loraquant_options(2, 0.9);
  options.refinement = adapter_refinement::sgd;
  const adapter_result descended = golden_adapter(options);
  adapter_options ours;
  ours.split = adapter_split::before;
  // Searched scales alone are below it already.
  CHECK(golden_adapter(ours).relative_error < descended.relative_error);
  ours.refinement = adapter_refinement::als;
  const adapter_result fitted = golden_adapter(ours);
  CHECK(fitted.adapter.bits_without_scales() == descended.adapter.bits_without_scales());
  CHECK(fitted.adapter.bits_with_scales() <= descended.adapter.bits_with_scales());
  CHECK(fitted.relative_error < 0.78 * descended.relative_error); // 0.414 of 0.545
}
