// SPDX-FileCopyrightText: 2026 The qlr authors
// SPDX-License-Identifier: MIT
#include <compress_checkpoint/page_tables.hpp>

#include <compress_checkpoint/page_text.hpp>

#include <cmath>
#include <map>
#include <vector>

namespace {

using nlohmann::ordered_json;

std::string cell(const std::string& text) {
  return "<td>" + text + "</td>";
}

std::string text_cell(const std::string& text) {
  return "<td class=\"text\">" + (text.empty() ? dash : escaped(text)) + "</td>";
}

/// Names of modules are broken behind their points first.
std::string name_cell(const std::string& text) {
  std::string name;
  for (const char letter : escaped(text)) {
    name += letter;
    if (letter == '.') name += "<wbr>";
  }
  return "<td class=\"long\"><code>" + name + "</code></td>";
}

std::string count_text(double value) {
  return number_text(value, 15);
}

std::string table(const std::string& head, const std::string& rows) {
  return "<div class=\"table\"><table>\n<thead><tr>" + head + "</tr></thead>\n<tbody>\n" + rows +
         "</tbody></table></div>\n";
}

/// Different notes, in the order in which they come, with the layers they were made for.
class note_list {
public:
  /// Numbers of the notes of a layer.
  std::string add(const ordered_json& tensor) {
    std::string numbers;
    for (const ordered_json& value : list_of(tensor, "notes")) {
      const std::string text = value.is_string() ? value.get<std::string>() : value.dump();
      const auto [place, is_new] = places_.emplace(text, notes_.size());
      if (is_new) notes_.push_back({text, {}});
      notes_[place->second].names.push_back(text_of(tensor, "name"));
      numbers += (numbers.empty() ? "" : ", ") + std::to_string(place->second + 1);
    }
    return numbers;
  }

  [[nodiscard]] std::string html() const {
    constexpr std::size_t max_names = 3;
    if (notes_.empty()) return {};
    std::string result = "<h3>Notes</h3>\n<ol>\n";
    for (const note& entry : notes_) {
      result += "<li>" + escaped(entry.text) + " <span class=\"soft\">(";
      for (std::size_t i = 0; i < entry.names.size() && i < max_names; ++i) {
        result += (i > 0 ? ", <code>" : "<code>") + escaped(entry.names[i]) + "</code>";
      }
      if (entry.names.size() > max_names)
        result += " and " + std::to_string(entry.names.size() - max_names) + " more";
      result += ")</span></li>\n";
    }
    return result + "</ol>\n";
  }

private:
  struct note {
    std::string text;
    std::vector<std::string> names;
  };
  std::vector<note> notes_;
  std::map<std::string, std::size_t> places_;
};

std::string format_text(const ordered_json& tensor) {
  std::string text = text_of(tensor, "quantizer");
  const std::string scale = text_of(tensor, "scale");
  const double group = number_of(tensor, "group_size");
  if (!scale.empty()) text += " " + scale;
  if (group > 0) text += " " + count_text(group);
  return text;
}

/// Columns that only some reports have.
struct optional_columns {
  bool weighted = false; // an error by another metric than that of the weights
  bool output = false;
  bool notes = false;
};

optional_columns columns_of(const ordered_json& tensors) {
  optional_columns result;
  for (const ordered_json& tensor : tensors) {
    const double weighted = number_of(tensor, "weighted_error");
    result.weighted =
        result.weighted || (std::isfinite(weighted) && weighted != number_of(tensor, "relative_error"));
    result.output = result.output || std::isfinite(number_of(tensor, "relative_output_error"));
    result.notes = result.notes || !list_of(tensor, "notes").empty();
  }
  return result;
}

std::string layer_head(const optional_columns& columns) {
  std::string head = "<th class=\"text\">layer</th><th>shape</th><th class=\"text\">format</th><th>rank</th>"
                     "<th>factor bits</th><th>bits per weight</th><th>size</th><th>relative error</th>";
  if (columns.weighted) head += "<th>error by metric</th><th class=\"text\">metric</th>";
  if (columns.output) head += "<th>output error</th>";
  head += "<th>seconds</th>";
  if (columns.notes) head += "<th>notes</th>";
  return head;
}

std::string layer_row(const ordered_json& tensor, const std::string& notes, const optional_columns& columns) {
  std::string row = "<tr>" + name_cell(text_of(tensor, "name"));
  row += cell(count_text(number_of(tensor, "rows")) + " &#215; " + count_text(number_of(tensor, "cols")));
  row += text_cell(format_text(tensor));
  row += cell(count_text(number_of(tensor, "rank"))) + cell(count_text(number_of(tensor, "factor_bits")));
  row +=
      cell(number_text(number_of(tensor, "bits_per_weight"))) + cell(bytes_text(number_of(tensor, "bytes")));
  row += cell(number_text(number_of(tensor, "relative_error")));
  if (columns.weighted)
    row += cell(number_text(number_of(tensor, "weighted_error"))) + text_cell(text_of(tensor, "metric"));
  if (columns.output) row += cell(number_text(number_of(tensor, "relative_output_error")));
  row += cell(number_text(number_of(tensor, "seconds"), 3));
  if (columns.notes) row += cell(notes);
  return row + "</tr>\n";
}

std::string shape_text(const ordered_json& shape) {
  std::string text;
  for (const ordered_json& extent : shape) {
    text += (text.empty() ? "" : " &#215; ") + (extent.is_number() ? count_text(extent.get<double>()) : dash);
  }
  return text.empty() ? "one number" : text;
}

} // namespace

std::string layer_table(const ordered_json& tensors) {
  if (tensors.empty()) return "<p>No layer was compressed.</p>\n";
  const optional_columns columns = columns_of(tensors);
  note_list notes;
  std::string rows;
  for (const ordered_json& tensor : tensors) rows += layer_row(tensor, notes.add(tensor), columns);
  return table(layer_head(columns), rows) + notes.html();
}

std::string kept_table(const ordered_json& kept) {
  if (kept.empty()) return "<p>No tensor was left as it is.</p>\n";
  std::string rows;
  for (const ordered_json& tensor : kept) {
    rows += "<tr>" + name_cell(text_of(tensor, "name")) + cell(shape_text(list_of(tensor, "shape"))) +
            text_cell(text_of(tensor, "dtype")) + cell(bytes_text(number_of(tensor, "bytes"))) +
            "<td class=\"long\">" + escaped(text_of(tensor, "reason")) + "</td></tr>\n";
  }
  return table("<th class=\"text\">tensor</th><th>shape</th><th class=\"text\">type</th><th>size</th>"
               "<th class=\"text\">why</th>",
               rows);
}
