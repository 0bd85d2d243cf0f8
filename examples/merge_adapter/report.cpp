// SPDX-FileCopyrightText: 2026 The qlr authors
// SPDX-License-Identifier: MIT
#include <merge_adapter/report.hpp>

#include <common/text.hpp>

#include <qlr/version.hpp>

#include <nlohmann/json.hpp>

#include <cmath>
#include <cstdio>
#include <vector>

namespace {

using qlr::index_t;

/// row += factor * (row i of left right).
void add_row(const qlr::matrix<float>& left, const qlr::matrix<float>& right, double factor, index_t i,
             std::vector<double>& row) {
  for (index_t k = 0; k < left.cols(); ++k) {
    const double value = factor * static_cast<double>(left(i, k));
    for (index_t j = 0; j < right.cols(); ++j)
      row[static_cast<std::size_t>(j)] += value * static_cast<double>(right(k, j));
  }
}

std::string percent(double share) {
  char text[32];
  std::snprintf(text, sizeof text, "%.2f %%", 100 * share);
  return text;
}

void print_line(const char* name, const std::string& value) {
  std::printf("%-28s %s\n", name, printable(value).c_str());
}

} // namespace

double measure_concatenation(const qlr::decomposition& base, const qlr::matrix<float>& left,
                             const qlr::matrix<float>& right, float scale, const qlr::decomposition& parts) {
  double error = 0;
  double norm = 0;
  for (index_t i = 0; i < base.rows(); ++i) {
    std::vector<double> delta(static_cast<std::size_t>(base.cols()));
    add_row(left, right, static_cast<double>(scale), i, delta);
    std::vector<double> difference(delta.size());
    add_row(parts.left, parts.right, static_cast<double>(parts.scale), i, difference);
    add_row(base.left, base.right, -static_cast<double>(base.scale), i, difference);
    for (std::size_t j = 0; j < delta.size(); ++j) {
      error += (difference[j] - delta[j]) * (difference[j] - delta[j]);
      norm += delta[j] * delta[j];
    }
  }
  return norm > 0 ? std::sqrt(error / norm) : 0.0;
}

void print_table(const report& result) {
  const qlr::decomposition& base = result.base;
  const qlr::decomposition& parts = result.parts;
  print_line("module", result.pair.module);
  print_line("weight", qlr::sentence(base.rows(), " x ", base.cols(), ", ", base.quantized.format_name()));
  print_line("adapter", qlr::sentence("rank ", result.pair.rank, ", scale ", result.pair.scale));
  print_line("way", result.merge ? "merged into the codes" : "beside L and R");
  print_line("rank", qlr::sentence(base.rank(), " -> ", parts.rank()));
  print_line("factors", qlr::sentence(qlr::to_string(base.factors), " -> ", qlr::to_string(parts.factors)));
  print_line("bytes", qlr::sentence(base.storage_bytes(), " -> ", parts.storage_bytes()));
  if (result.merge) {
    print_line("adapter / quantized weight", percent(result.merge->relative_delta));
    print_line("scales", std::string(qlr::to_string(result.merge->scales)));
    print_line("changed codes", qlr::sentence(result.merge->changed_codes, " of ", result.merge->num_codes));
    print_line("adapter that survives", percent(result.merge->survived_share));
  }
  print_line("relative error of adapter", qlr::sentence(result.relative_error()));
  if (result.merge && !result.merge->is_within(result.args.options.largest_error))
    print_line("verdict", "lossy: --concatenate keeps the adapter");
}

std::string to_json(const report& result) {
  using nlohmann::ordered_json;
  const qlr::decomposition& base = result.base;
  const qlr::decomposition& parts = result.parts;
  ordered_json json{{"qlr_version", qlr::version_string},
                    {"base", result.args.base},
                    {"adapter", result.args.adapter},
                    {"module", result.pair.module},
                    {"rows", base.rows()},
                    {"cols", base.cols()},
                    {"format", base.quantized.format_name()},
                    {"way", result.merge ? "merge" : "concatenate"},
                    {"adapter_rank", result.pair.rank},
                    {"adapter_scale", result.pair.scale},
                    {"rank_before", base.rank()},
                    {"rank", parts.rank()},
                    {"factors_before", qlr::to_string(base.factors)},
                    {"factors", qlr::to_string(parts.factors)},
                    {"bytes_before", base.storage_bytes()},
                    {"bytes", parts.storage_bytes()},
                    {"relative_error", result.relative_error()}};
  if (result.merge) {
    json["merge"] = {{"scales", qlr::to_string(result.merge->scales)},
                     {"relative_delta", result.merge->relative_delta},
                     {"survived_share", result.merge->survived_share},
                     {"changed_codes", result.merge->changed_codes},
                     {"num_codes", result.merge->num_codes},
                     {"is_lossy", !result.merge->is_within(result.args.options.largest_error)}};
  }
  return json.dump(2, ' ', false, ordered_json::error_handler_t::replace) + "\n";
}
