// SPDX-FileCopyrightText: 2026 The qlr authors
// SPDX-License-Identifier: MIT
#include <compress_checkpoint/page.hpp>

#include <compress_checkpoint/page_charts.hpp>
#include <compress_checkpoint/page_style.hpp>
#include <compress_checkpoint/page_tables.hpp>
#include <compress_checkpoint/page_text.hpp>

#include <array>
#include <cmath>

namespace {

using nlohmann::ordered_json;

std::string tile(const char* name, const std::string& value, const std::string& more) {
  return std::string("<div><dt>") + name + "</dt><dd>" + value + "<small>" + more + "</small></dd></div>\n";
}

std::string weights_text(double weights) {
  constexpr double million = 1e6;
  if (weights >= 1e9) return number_text(weights / 1e9, 3) + " billion";
  if (weights >= million) return number_text(weights / million, 3) + " million";
  return number_text(weights, 15);
}

std::string size_note(double input, double output) {
  if (!(input > 0) || !(output > 0)) return "input and output";
  if (input >= output) return number_text(input / output, 3) + " times smaller";
  return number_text(output / input, 3) + " times larger";
}

std::string tiles(const ordered_json& report) {
  const ordered_json totals = report.value("totals", ordered_json::object());
  const double input = number_of(totals, "input_bytes");
  const double output = number_of(totals, "output_bytes");
  const double weights = number_of(totals, "weights");
  const double compressed = number_of(totals, "compressed_weights");
  const bool is_any = compressed > 0;
  std::string share = "of all weights";
  if (weights > 0 && is_any)
    share = number_text(100 * compressed / weights, 3) + " % of " + weights_text(weights);
  return "<dl class=\"tiles\">\n" +
         tile("Size", bytes_text(input) + " &#8594; " + bytes_text(output), size_note(input, output)) +
         tile("Bits per weight", is_any ? number_text(number_of(totals, "bits_per_weight")) : dash,
              "of what was compressed") +
         tile("Relative error", is_any ? number_text(number_of(totals, "relative_error")) : dash,
              "of all compressed layers together") +
         tile("Layers compressed", std::to_string(list_of(report, "tensors").size()),
              std::to_string(list_of(report, "kept").size()) + " tensors kept as they are") +
         tile("Weights compressed", weights_text(compressed), share) +
         tile("Time", duration_text(number_of(totals, "seconds")),
              number_text(number_of(report, "threads")) + " threads &#215; " +
                  number_text(number_of(report, "processes")) + " processes") +
         "</dl>\n";
}

/// A text or a whole number of the report; what the quantizer decides is null there.
std::string fact_text(const ordered_json& report, const char* key) {
  const std::string text = text_of(report, key);
  if (!text.empty()) return escaped(text);
  if (!report.contains(key)) return dash;
  const ordered_json& value = report.at(key);
  if (value.is_null()) return "default";
  return value.is_number_integer() ? value.dump() : number_text(number_of(report, key));
}

std::string facts(const ordered_json& report) {
  constexpr std::array<std::array<const char*, 2>, 9> rows{{{"method", "Method"},
                                                            {"quantizer", "Quantizer"},
                                                            {"group_size", "Group size"},
                                                            {"scale", "Scales"},
                                                            {"rank", "Rank"},
                                                            {"factor_bits", "Bits of the factors"},
                                                            {"format", "Written as"},
                                                            {"seed", "Seed"},
                                                            {"qlr_version", "Version of qlr"}}};
  std::string result = "<dl class=\"facts\">\n";
  for (const auto& [key, name] : rows) {
    result += std::string("<div><dt>") + name + "</dt><dd>" + fact_text(report, key) + "</dd></div>\n";
  }
  return result + "</dl>\n";
}

/// Whose singular values the report has, where it says so.
std::string decay_note(const ordered_json& report) {
  const double spectrum = number_of(report.value("settings", ordered_json::object()), "spectrum");
  std::string whose = "Singular values";
  if (spectrum > 0) whose = "The leading singular values of each weight matrix";
  if (spectrum == 0) whose = "The singular values of each product L R";
  return "<p class=\"soft\">" + whose + ", divided by the first, one line for each layer.</p>\n";
}

std::string charts(const ordered_json& report) {
  const page_layers all = read_layers(list_of(report, "tensors"));
  if (all.layers.empty()) return {};
  return "<h2>Relative error of each layer</h2>\n" +
         layer_chart(all, &page_layer::error, "relative error of the weights") +
         "<h2>Bits per weight of each layer</h2>\n" +
         layer_chart(all, &page_layer::bits, "bits per weight, factors and scales counted") +
         "<h2>Decay of the singular values</h2>\n" + decay_note(report) + decay_charts(all);
}

} // namespace

std::string report_page(const ordered_json& report) {
  std::string page = "<!DOCTYPE html>\n<html lang=\"en\">\n<head>\n<meta charset=\"utf-8\">\n"
                     "<meta name=\"viewport\" content=\"width=device-width, initial-scale=1\">\n"
                     "<title>Compression of ";
  const std::string input = escaped(text_of(report, "input"));
  page += input + "</title>\n<style>" + page_style + "</style>\n</head>\n<body>\n<main>\n";
  page += "<h1>Compression of a checkpoint</h1>\n<p><code>" + input + "</code> &#8594; <code>" +
          escaped(text_of(report, "output")) + "</code></p>\n";
  page += tiles(report) + facts(report) + charts(report);
  page += "<h2>Compressed layers</h2>\n" + layer_table(list_of(report, "tensors"));
  page += "<h2>Tensors kept as they are</h2>\n" + kept_table(list_of(report, "kept"));
  return page + "</main>\n</body>\n</html>\n";
}
