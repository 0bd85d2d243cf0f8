// SPDX-FileCopyrightText: 2026 The qlr authors
// SPDX-License-Identifier: MIT
#include <quantize_adapter/report.hpp>

#include <common/text.hpp>

#include <qlr/version.hpp>

#include <nlohmann/json.hpp>

#include <cmath>
#include <cstdio>

namespace {

/// Mean of a property of each adapter, weighted with its elements.
template <class Property>
double mean_bits(const report& result, Property&& property) {
  double sum = 0;
  double count = 0;
  for (const qlr::adapter_result& pair : result.results) {
    const auto elements = static_cast<double>(pair.adapter.num_elements());
    sum += elements * property(pair.adapter);
    count += elements;
  }
  return count > 0 ? sum / count : 0.0;
}

/// Adapters of PEFT name their tensors, plain files may not name a module.
std::string name_of(const qlr::io::peft_pair& pair) {
  return pair.module.empty() ? pair.left_name : pair.module;
}

} // namespace

double report::relative_error() const {
  double error = 0;
  double total = 0;
  for (std::size_t i = 0; i < results.size(); ++i) {
    const double norm = norms[i] * norms[i];
    error += norm * results[i].relative_error * results[i].relative_error;
    total += norm;
  }
  return total > 0 ? std::sqrt(error / total) : 0.0;
}

double report::bits_without_scales() const {
  return mean_bits(*this,
                   [](const qlr::quantized_adapter& adapter) { return adapter.bits_without_scales(); });
}

double report::bits_with_scales() const {
  return mean_bits(*this, [](const qlr::quantized_adapter& adapter) { return adapter.bits_with_scales(); });
}

qlr::index_t report::packed_bytes() const {
  qlr::index_t bytes = 0;
  for (const qlr::adapter_result& pair : results) bytes += pair.adapter.storage_bytes();
  return bytes;
}

void print_table(const report& result) {
  std::printf("%-44s %11s %9s %9s %6s %7s %8s\n", "pair", "shape", "rank", "error", "bits", "stored",
              "seconds");
  for (std::size_t i = 0; i < result.results.size(); ++i) {
    const qlr::adapter_result& pair = result.results[i];
    const qlr::quantized_adapter& adapter = pair.adapter;
    const std::string shape = qlr::sentence(adapter.rows(), "x", adapter.cols());
    const std::string rank = qlr::sentence(adapter.split_rank(), " of ", adapter.rank());
    std::printf("%-44s %11s %9s %9.6f %6.3f %7.3f %8.3f\n", printable(name_of(result.pairs[i])).c_str(),
                shape.c_str(), rank.c_str(), pair.relative_error, adapter.bits_without_scales(),
                adapter.bits_with_scales(), pair.seconds_total);
  }
  std::printf("%-44s %11s %9s %9.6f %6.3f %7.3f %8.3f\n", "all", "", "", result.relative_error(),
              result.bits_without_scales(), result.bits_with_scales(), result.seconds);
}

std::string to_json(const report& result) {
  using nlohmann::ordered_json;
  const qlr::adapter_options& options = result.args.options;
  ordered_json json{{"qlr_version", qlr::version_string},
                    {"input", result.args.input},
                    {"high_bits", options.high_bits},
                    {"ratio", options.ratio},
                    {"group_size", options.group_size},
                    {"scale", qlr::scale_type_name(options.scales)},
                    {"refine", to_string(options.refinement)},
                    {"threads", result.threads},
                    {"relative_error", result.relative_error()},
                    {"bits_without_scales", result.bits_without_scales()},
                    {"bits_with_scales", result.bits_with_scales()},
                    {"packed_bytes", result.packed_bytes()},
                    {"seconds_total", result.seconds},
                    {"pairs", ordered_json::array()}};
  for (std::size_t i = 0; i < result.results.size(); ++i) {
    const qlr::adapter_result& pair = result.results[i];
    const qlr::io::peft_pair& source = result.pairs[i];
    json["pairs"].push_back({{"module", source.module},
                             {"left", source.left_name},
                             {"right", source.right_name},
                             {"rows", source.rows},
                             {"cols", source.cols},
                             {"rank", pair.adapter.rank()},
                             {"split_rank", pair.adapter.split_rank()},
                             {"scale", source.scale},
                             {"relative_error", pair.relative_error},
                             {"relative_error_rounded", pair.relative_error_rounded},
                             {"bits_without_scales", pair.adapter.bits_without_scales()},
                             {"bits_with_scales", pair.adapter.bits_with_scales()},
                             {"packed_bytes", pair.adapter.storage_bytes()},
                             {"sweeps", pair.sweeps_run},
                             {"seconds", pair.seconds_total}});
  }
  return json.dump(2, ' ', false, ordered_json::error_handler_t::replace) + "\n";
}
