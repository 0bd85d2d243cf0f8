// SPDX-FileCopyrightText: 2026 The qlr authors
// SPDX-License-Identifier: MIT
#include <inspect/report.hpp>

#include <common/text.hpp>

#include <qlr/core/status.hpp>
#include <qlr/version.hpp>

#include <nlohmann/json.hpp>

#include <algorithm>
#include <array>
#include <cstdio>

namespace {

using json = nlohmann::ordered_json;
using qlr::index_t;

/// Sums over rows.
struct totals {
  std::size_t num_rows = 0;
  index_t weights = 0;
  index_t bytes = 0;

  void add(const item& row) {
    ++num_rows;
    weights = add_up(weights, row.weights);
    bytes = add_up(bytes, row.bytes);
  }
};

double bits_of(index_t bytes, index_t weights) {
  return 8.0 * static_cast<double>(bytes) / static_cast<double>(weights);
}

std::string fixed(double value) {
  std::array<char, 64> buffer{};
  std::snprintf(buffer.data(), buffer.size(), "%.3f", value);
  return buffer.data();
}

std::string shape_text(const std::vector<index_t>& shape) {
  std::string text;
  for (const index_t extent : shape) text += qlr::sentence(text.empty() ? "" : "x", extent);
  return text;
}

std::string group_text(const item& row) {
  if (!row.group_size) return "";
  return *row.group_size == 0 ? "row" : *row.group_size < 0 ? "tensor" : std::to_string(*row.group_size);
}

struct column {
  const char* title;
  bool is_number;
  std::string (*text)(const item& row);
};

const std::array<column, 11> all_columns{{
    {"name", false, [](const item& row) { return printable(row.name); }},
    {"shape", true, [](const item& row) { return shape_text(row.shape); }},
    {"format", false, [](const item& row) { return printable(row.format); }},
    {"group", true, [](const item& row) { return group_text(row); }},
    {"scales", false, [](const item& row) { return printable(row.scales); }},
    {"rank", true, [](const item& row) { return row.rank ? std::to_string(*row.rank) : ""; }},
    {"L and R", false, [](const item& row) { return printable(row.factors); }},
    {"bits", true,
     [](const item& row) { return row.weights == 0 ? "" : fixed(bits_of(row.bytes, row.weights)); }},
    {"bytes", true, [](const item& row) { return row.bytes == 0 ? "" : std::to_string(row.bytes); }},
    {"file", false, [](const item& row) { return printable(row.file); }},
    {"note", false, [](const item& row) { return printable(row.note); }},
}};

/// Columns side by side, those without any text left out.
void print_table(const std::vector<const item*>& rows) {
  std::vector<std::string> lines(rows.size() + 1);
  for (const column& part : all_columns) {
    std::vector<std::string> cells{part.title};
    bool is_empty = true;
    for (const item* const row : rows) {
      cells.push_back(part.text(*row));
      is_empty = is_empty && cells.back().empty();
    }
    if (is_empty) continue;
    std::size_t width = 0;
    for (const std::string& cell : cells) width = std::max(width, cell.size());
    for (std::size_t i = 0; i < cells.size(); ++i) {
      if (!lines[i].empty()) lines[i] += "  ";
      const std::string padding(width - cells[i].size(), ' ');
      lines[i] += part.is_number ? padding + cells[i] : cells[i] + padding;
    }
  }
  for (std::string& line : lines) {
    line.erase(line.find_last_not_of(' ') + 1);
    std::printf("%s\n", line.c_str());
  }
}

void print_totals(const char* what, const totals& sums) {
  std::printf("%-12s  %zu", what, sums.num_rows);
  if (sums.weights > 0) {
    std::printf(": %lld numbers in %lld bytes, %.3f bits each", static_cast<long long>(sums.weights),
                static_cast<long long>(sums.bytes), bits_of(sums.bytes, sums.weights));
  }
  std::printf("\n");
}

template <class Condition>
totals sum_up(const report& result, Condition&& condition) {
  totals sums;
  for (const item* const row : result.rows) {
    if (condition(*row)) sums.add(*row);
  }
  return sums;
}

json totals_json(const totals& sums) {
  json out;
  out["rows"] = sums.num_rows;
  out["weights"] = sums.weights;
  out["bytes"] = sums.bytes;
  out["bits_per_weight"] = sums.weights > 0 ? json(bits_of(sums.bytes, sums.weights)) : json(nullptr);
  return out;
}

json text_json(const std::string& text) {
  return text.empty() ? json(nullptr) : json(text);
}

json item_json(const item& row) {
  json out;
  out["name"] = row.name;
  out["shape"] = row.shape;
  out["format"] = text_json(row.format);
  out["group_size"] = row.group_size ? json(*row.group_size) : json(nullptr);
  out["scales"] = text_json(row.scales);
  out["rank"] = row.rank ? json(*row.rank) : json(nullptr);
  out["factors"] = text_json(row.factors);
  out["weights"] = row.weights;
  out["bytes"] = row.bytes;
  out["bits_per_weight"] = row.weights > 0 ? json(bits_of(row.bytes, row.weights)) : json(nullptr);
  out["file"] = text_json(row.file);
  out["note"] = text_json(row.note);
  return out;
}

bool is_chosen(const arguments& args, const item& row) {
  constexpr std::size_t longest = 4096; // the matcher takes stack for every byte
  return !args.names || (row.name.size() <= longest && std::regex_search(row.name, *args.names));
}

} // namespace

report make_report(const arguments& args, const contents& found) {
  report result{args, found};
  for (const item& row : found.items) {
    if (is_chosen(args, row)) result.rows.push_back(&row);
  }
  if (args.sort == "name")
    std::ranges::stable_sort(result.rows, {},
                             [](const item* row) -> const std::string& { return row->name; });
  if (args.sort == "bytes")
    std::ranges::stable_sort(result.rows, std::greater<>(), [](const item* row) { return row->bytes; });
  return result;
}

void print_report(const report& result) {
  const contents& found = result.found;
  std::printf("%s: %s, %zu %s, %lld bytes\n", printable(result.args.path).c_str(), found.kind.c_str(),
              found.num_files, found.num_files == 1 ? "file" : "files",
              static_cast<long long>(found.file_bytes));
  for (const auto& [key, value] : found.facts) {
    constexpr std::size_t longest = 100;
    const std::string text = value.size() > longest ? value.substr(0, longest) + "..." : value;
    std::printf("  %s = %s\n", printable(key).c_str(), printable(text).c_str());
  }
  std::vector<const item*> shown = result.rows;
  const auto limit = static_cast<std::size_t>(result.args.limit);
  if (limit > 0 && shown.size() > limit) shown.resize(limit);
  std::printf("\n");
  if (!shown.empty()) print_table(shown);
  if (shown.size() < result.rows.size()) std::printf("... %zu more\n", result.rows.size() - shown.size());
  if (!shown.empty()) std::printf("\n");
  const totals compressed = sum_up(result, [](const item& row) { return row.is_compressed(); });
  const totals others = sum_up(result, [](const item& row) { return !row.is_compressed(); });
  if (compressed.num_rows > 0 && others.num_rows > 0) {
    print_totals("compressed", compressed);
    print_totals("as they are", others);
  }
  print_totals("all", sum_up(result, [](const item&) { return true; }));
}

std::string to_json(const report& result) {
  const contents& found = result.found;
  json out;
  out["qlr_version"] = qlr::version_string;
  out["path"] = result.args.path;
  out["kind"] = found.kind;
  out["num_files"] = found.num_files;
  out["file_bytes"] = found.file_bytes;
  out["metadata"] = json::array();
  for (const auto& [key, value] : found.facts) out["metadata"].push_back({{"key", key}, {"value", value}});
  out["compressed"] = totals_json(sum_up(result, [](const item& row) { return row.is_compressed(); }));
  out["total"] = totals_json(sum_up(result, [](const item&) { return true; }));
  out["items"] = json::array();
  for (const item* const row : result.rows) out["items"].push_back(item_json(*row));
  // Paths and texts of GGUF files need not be UTF-8.
  return out.dump(2, ' ', false, json::error_handler_t::replace) + "\n";
}
