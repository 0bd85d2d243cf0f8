// SPDX-FileCopyrightText: 2026 The qlr authors
// SPDX-License-Identifier: MIT
#include <compress_checkpoint/page_charts.hpp>

#include <common/svg.hpp>
#include <compress_checkpoint/page_text.hpp>

#include <algorithm>
#include <cmath>
#include <iterator>
#include <map>

namespace {

constexpr std::size_t max_marks = 2000; // of a drawing
constexpr std::size_t max_lines = 60;   // of a kind
constexpr std::size_t max_points = 80;  // of a line
constexpr std::size_t longest_name = 120;

using chosen_layers = std::vector<const page_layer*>;

/// Evenly chosen, with the first and the last, so that the extremes of what is sorted stay.
chosen_layers thinned(const chosen_layers& layers, std::size_t largest) {
  if (layers.size() <= largest) return layers;
  chosen_layers result;
  for (std::size_t i = 0; i < largest; ++i) result.push_back(layers[i * (layers.size() - 1) / (largest - 1)]);
  return result;
}

std::string class_of(std::size_t series) {
  return "k" + std::to_string(series);
}

std::string title_of(const page_layer& layer, double value) {
  const std::string_view name = end_of(layer.name, longest_name);
  return "<title>" + std::string(name.size() < layer.name.size() ? "&#8230;" : "") + escaped(name) + ": " +
         number_text(value) + "</title>";
}

/// Places along the depth: block numbers, then one place for what is in no block; without any block the
/// order of the report.
class depth {
public:
  depth(const page_layers& all, double begin, double end) : first_(all.layers.data()) {
    find_blocks(all);
    others_ = high_ + std::max(1.0, 0.06 * (high_ - low_ + 1));
    const double last = has_others_ ? others_ : high_;
    line_ = counting_axis(low_ - 0.5, last + 0.5, begin, end);
    // The name of the last place needs room.
    const double last_tick = has_others_ ? line_.place(others_) - 50 : end;
    std::erase_if(line_.ticks, [&](const tick& mark) {
      return mark.value > high_ || (mark.value > low_ && line_.place(mark.value) > last_tick);
    });
    if (has_others_) line_.ticks.push_back({others_, "other"});
    // Kinds stand side by side, so that equal values do not hide each other.
    shift_ = std::min(8.0, 0.7 * (end - begin) / (last - low_ + 1) / static_cast<double>(all.series.size()));
    middle_ = (static_cast<double>(all.series.size()) - 1) / 2;
  }

  [[nodiscard]] const axis& line() const { return line_; }
  [[nodiscard]] const char* label() const {
    return has_blocks_ ? "block" : "layer, in the order of the table";
  }

  [[nodiscard]] double place(const page_layer& layer) const {
    if (!has_blocks_) return line_.place(static_cast<double>(&layer - first_));
    const double value = layer.block ? *layer.block : others_;
    return line_.place(value) + shift_ * (static_cast<double>(layer.series) - middle_);
  }

private:
  void find_blocks(const page_layers& all) {
    for (const page_layer& layer : all.layers) {
      if (!layer.block) continue;
      low_ = has_blocks_ ? std::min(low_, *layer.block) : *layer.block;
      high_ = has_blocks_ ? std::max(high_, *layer.block) : *layer.block;
      has_blocks_ = true;
    }
    if (!has_blocks_) high_ = static_cast<int>(all.layers.size()) - 1;
    has_others_ =
        has_blocks_ && std::ranges::any_of(all.layers, [](const page_layer& layer) { return !layer.block; });
  }

  const page_layer* first_;
  int low_ = 0;
  int high_ = 0;
  bool has_blocks_ = false;
  bool has_others_ = false;
  double others_ = 0;
  axis line_;
  double shift_ = 0;
  double middle_ = 0;
};

/// A line along the blocks, where each block has one layer of the kind.
std::string thread_of(const chosen_layers& layers, double page_layer::*value, const depth& x, const axis& y) {
  std::map<int, const page_layer*> by_block;
  for (const page_layer* layer : layers) {
    if (layer->block && !by_block.emplace(*layer->block, layer).second) return {};
  }
  if (by_block.size() < 2) return {};
  std::string path;
  for (const auto& [block, layer] : by_block) {
    path += (path.empty() ? "M" : "L") + point_text(x.place(*layer), y.place(layer->*value));
  }
  return R"(<path class="thread" d=")" + path + "\"/>\n";
}

std::string place_of(const page_layer& layer, double page_layer::*value) {
  return number_text(layer.*value) + " at <code>" + (layer.name.empty() ? dash : escaped(layer.name)) +
         "</code>";
}

std::string caption(const chosen_layers& sorted, std::size_t num_shown, double page_layer::*value) {
  const page_layer& least = *sorted.front();
  const page_layer& most = *sorted.back();
  std::string result =
      "<figcaption>Largest: " + place_of(most, value) + "; smallest: " + place_of(least, value) + ".";
  if (!(least.*value < most.*value)) result = "<figcaption>All: " + number_text(most.*value) + ".";
  if (num_shown < sorted.size())
    result += " " + std::to_string(num_shown) + " of " + std::to_string(sorted.size()) + " layers are shown.";
  return result + "</figcaption>\n";
}

/// In powers of ten where the values are far apart.
axis value_axis(const std::vector<double>& values, double begin, double end) {
  constexpr double far_apart = 30;
  const auto [least, most] = std::ranges::minmax(values);
  return least > 0 && most > far_apart * least ? log_axis(values, begin, end)
                                               : linear_axis(values, begin, end);
}

/// A line through the values; a single one is a disc.
std::string decay_path(const page_layer& layer, const axis& x, const axis& y) {
  const std::size_t count = layer.decay.size();
  if (count == 1) return mark_path(0, x.place(1), y.place(1));
  const std::size_t num_points = std::min(count, max_points);
  std::string path;
  for (std::size_t i = 0; i < num_points; ++i) {
    const std::size_t index = i * (count - 1) / (num_points - 1);
    path += (i == 0 ? "M" : "L") +
            point_text(x.place(static_cast<double>(index + 1)), y.place(layer.decay[index]));
  }
  return path;
}

std::string decay_panel(const page_series& series, const chosen_layers& layers, const axis& x,
                        const axis& y) {
  constexpr double width = 320;
  constexpr double height = 230;
  const chosen_layers shown = thinned(layers, max_lines);
  const std::string_view name = end_of(series.name, longest_name);
  std::string result = "<figure class=\"panel\"><h3>" + escaped(name) + "</h3>\n";
  result += svg_head(width, height, "singular values of " + std::string(name));
  result += svg_axes(x, y, "position", "share of the first");
  result += "<g class=\"" + class_of(layers.front()->series) + "\">\n";
  for (const page_layer* layer : shown) {
    result += std::string("<path class=\"") + (layer->decay.size() > 1 ? "decay" : "mark") + "\" d=\"" +
              decay_path(*layer, x, y) + "\">" + title_of(*layer, layer->decay.back()) + "</path>\n";
  }
  result += "</g>\n</svg>\n";
  if (shown.size() < layers.size())
    result += "<figcaption>" + std::to_string(shown.size()) + " of " + std::to_string(layers.size()) +
              " layers are shown.</figcaption>\n";
  return result + "</figure>\n";
}

/// Names of the kinds with their marks.
std::string legend(const page_layers& all) {
  std::string result = "<ul class=\"legend\">\n";
  for (std::size_t i = 0; i < all.series.size(); ++i) {
    const page_series& series = all.series[i];
    result += "<li>" + svg_head(12, 12, "mark") + "<path class=\"" + class_of(i) + " mark\" d=\"" +
              mark_path(i, 6, 6) + "\"/></svg> " + escaped(end_of(series.name, longest_name)) + " (" +
              std::to_string(series.num_layers) + ")</li>\n";
  }
  return result + "</ul>\n";
}

} // namespace

std::string layer_chart(const page_layers& all, double page_layer::*value, const char* label) {
  constexpr double width = 840;
  constexpr double height = 320;
  chosen_layers sorted;
  for (const page_layer& layer : all.layers) {
    if (!std::isnan(layer.*value)) sorted.push_back(&layer);
  }
  if (sorted.empty()) return "<p>No layer has this number.</p>\n";
  std::ranges::stable_sort(sorted, {}, [&](const page_layer* layer) { return layer->*value; });
  const chosen_layers shown = thinned(sorted, max_marks);
  std::vector<double> values;
  for (const page_layer* layer : shown) values.push_back(layer->*value);
  const depth x(all, 56, width - 10);
  const axis y = value_axis(values, height - 44, 30);
  std::string result = "<figure>" + legend(all) + "<div class=\"wide\">\n" + svg_head(width, height, label) +
                       svg_axes(x.line(), y, x.label(), label);
  for (std::size_t series = 0; series < all.series.size(); ++series) {
    chosen_layers mine;
    std::ranges::copy_if(shown, std::back_inserter(mine),
                         [&](const page_layer* layer) { return layer->series == series; });
    result += "<g class=\"" + class_of(series) + "\">\n";
    if (!all.series[series].is_rest) result += thread_of(mine, value, x, y);
    for (const page_layer* layer : mine) {
      result += R"(<path class="mark" d=")" + mark_path(series, x.place(*layer), y.place(layer->*value)) +
                "\">" + title_of(*layer, layer->*value) + "</path>\n";
    }
    result += "</g>\n";
  }
  return result + "</svg></div>\n" + caption(sorted, shown.size(), value) + "</figure>\n";
}

std::string decay_charts(const page_layers& all) {
  std::vector<chosen_layers> by_series(all.series.size());
  std::vector<double> values;
  std::size_t longest = 2;
  for (const page_layer& layer : all.layers) {
    if (layer.decay.empty()) continue;
    by_series[layer.series].push_back(&layer);
    values.insert(values.end(), layer.decay.begin(), layer.decay.end());
    longest = std::max(longest, layer.decay.size());
  }
  if (values.empty()) return "<p>No layer has singular values above zero.</p>\n";
  axis x = counting_axis(1, static_cast<double>(longest), 50, 310);
  if (x.ticks.front().value > 1) x.ticks.insert(x.ticks.begin(), {1, "1"});
  const axis y = log_axis(values, 186, 30);
  std::string result = "<div class=\"panels\">\n";
  for (std::size_t i = 0; i < by_series.size(); ++i) {
    if (!by_series[i].empty()) result += decay_panel(all.series[i], by_series[i], x, y);
  }
  return result + "</div>\n";
}
