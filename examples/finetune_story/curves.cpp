// SPDX-FileCopyrightText: 2026 The qlr authors
// SPDX-License-Identifier: MIT
#include <finetune_story/curves.hpp>

#include <common/markup.hpp>
#include <common/svg.hpp>

#include <qlr/core/status.hpp>

#include <algorithm>
#include <array>
#include <cmath>
#include <cstddef>

namespace {

constexpr double plot_left = 58;
constexpr double plot_right = 640;
constexpr double plot_top = 66;
constexpr double legend_left = plot_right + 22;
constexpr double legend_text = legend_left + 44;
constexpr double entry_height = 24;
constexpr std::size_t longest_name = 40;
constexpr std::size_t longest_title = 90;

/// The background is set, so that the drawing is the same on light and dark pages.
constexpr const char* style = R"(<style>
.back{fill:#fff}
text{font:13px system-ui,sans-serif;fill:#1b1f24}
.title{font-size:16px;font-weight:600}
.axes text{font-size:12px;fill:#5a636e}
.grid{stroke:#d5dae0;fill:none}
.base{stroke:#5a636e;fill:none}
.band{fill-opacity:.14;stroke-opacity:.3;stroke-width:1}
.line{fill:none;stroke-width:2;stroke-linejoin:round}
.mark{stroke:#fff;stroke-width:.8}
</style>
)";

/// The colours of Okabe and Ito, which the colour-blind can tell apart; yellow, black and sky blue are
/// changed for a white background, two are added.
constexpr std::array<const char*, 9> colours{"#0072b2", "#d55e00", "#009e73", "#b8579a", "#c58500",
                                             "#333b45", "#3aa0dc", "#6d6100", "#767c84"};
constexpr std::array<const char*, 5> dashes{"none", "8 4", "2 3", "12 3 2 3", "5 2"};
/// As 6 and 5 have no common factor, 30 curves differ from each other even without colours.
constexpr std::size_t num_marks = 6;

struct point {
  double x = 0;
  double low = 0;
  double y = 0;
  double high = 0;
};

using run_of_points = std::vector<point>; // without a gap

bool can_be_drawn(double value) {
  return std::abs(value) <= 1e30; // differences must not overflow
}

bool has_band(const curve& some) {
  return !some.low.empty() || !some.high.empty();
}

void check(const curve& some) {
  const std::size_t count = some.steps.size();
  const auto check_count = [&](const char* what, std::size_t size, bool may_be_empty) {
    qlr::require(size == count || (may_be_empty && size == 0), qlr::status_code::invalid_argument, what,
                 " of curve '", some.name, "' has ", size, " numbers, allowed are ", count, ", as steps has");
  };
  check_count("mean", some.mean.size(), false);
  check_count("low", some.low.size(), !has_band(some));
  check_count("high", some.high.size(), !has_band(some));
}

/// What can be drawn of a curve, cut where a number is missing.
std::vector<run_of_points> split(const curve& some) {
  std::vector<run_of_points> runs;
  bool is_open = false;
  for (std::size_t i = 0; i < some.steps.size(); ++i) {
    point next{some.steps[i], some.mean[i], some.mean[i], some.mean[i]};
    if (has_band(some)) next = {some.steps[i], some.low[i], some.mean[i], some.high[i]};
    const bool is_drawn =
        can_be_drawn(next.x) && can_be_drawn(next.low) && can_be_drawn(next.y) && can_be_drawn(next.high);
    if (is_drawn && !is_open) runs.emplace_back();
    if (is_drawn) runs.back().push_back(next);
    is_open = is_drawn;
  }
  return runs;
}

struct drawn_curve {
  const curve& source;
  std::vector<run_of_points> runs;
};

struct frame {
  axis x;
  axis y;
};

frame frame_of(const std::vector<drawn_curve>& curves, double bottom) {
  double first = 0;
  double last = 0;
  std::vector<double> values;
  for (const drawn_curve& drawn : curves) {
    for (const run_of_points& run : drawn.runs) {
      for (const point& at : run) {
        first = std::min(first, at.x);
        last = std::max(last, at.x);
        values.insert(values.end(), {at.low, at.y, at.high});
      }
    }
  }
  return {counting_axis(first, std::max(last, first + 1), plot_left, plot_right),
          close_axis(values, bottom, plot_top)};
}

/// Around what is between low and high; where that is a single point, an upright line.
std::string band_path(const run_of_points& run, const frame& in) {
  std::string path;
  for (const point& at : run)
    path += (path.empty() ? "M" : "L") + point_text(in.x.place(at.x), in.y.place(at.high));
  const run_of_points reversed(run.rbegin(), run.rend());
  for (const point& at : reversed) path += "L" + point_text(in.x.place(at.x), in.y.place(at.low));
  return path + "z";
}

std::string line_path(const run_of_points& run, const frame& in) {
  std::string path;
  for (const point& at : run)
    path += (path.empty() ? "M" : "L") + point_text(in.x.place(at.x), in.y.place(at.y));
  return path;
}

/// Marks at even distances, those of one curve between those of the others; a single point always has one.
std::string marks_path(const drawn_curve& drawn, std::size_t index, std::size_t num_curves, const frame& in) {
  constexpr double distance = (plot_right - plot_left) / 7;
  double next = plot_left + distance * (static_cast<double>(index) + 0.5) / static_cast<double>(num_curves);
  std::string path;
  for (const run_of_points& run : drawn.runs) {
    for (const point& at : run) {
      const double x = in.x.place(at.x);
      if (x < next && run.size() > 1) continue;
      path += mark_path(index % num_marks, x, in.y.place(at.y));
      while (next <= x) next += distance;
    }
  }
  return path;
}

std::string path_element(const char* kind, const std::string& path, const std::string& attributes = {}) {
  if (path.empty()) return {};
  return std::string("<path class=\"") + kind + '"' + attributes + " d=\"" + path + "\"/>\n";
}

std::string dash_attribute(std::size_t index) {
  return std::string(" stroke-dasharray=\"") + dashes.at(index % dashes.size()) + '"';
}

/// Elements in the colour of a curve.
std::string in_colour(std::size_t index, const std::string& elements) {
  const std::string colour = colours.at(index % colours.size());
  return "<g stroke=\"" + colour + "\" fill=\"" + colour + "\">\n" + elements + "</g>\n";
}

/// At most so many characters of a text.
std::string shortened(std::string_view text, std::size_t most) {
  std::size_t num_characters = 0;
  for (std::size_t i = 0; i < text.size(); ++i) {
    if ((static_cast<unsigned char>(text[i]) & 0xC0U) == 0x80U) continue; // within a character
    if (++num_characters > most) return std::string(text.substr(0, i)) + "...";
  }
  return std::string(text);
}

std::string text_element(double x, double y, const char* kind, std::string_view text) {
  return "<text class=\"" + std::string(kind) + "\" x=\"" + place_text(x) + "\" y=\"" + place_text(y) +
         "\">" + escaped(text) + "</text>\n";
}

std::string legend_entry(const std::string& name, std::size_t index) {
  const double y = plot_top + entry_height * (static_cast<double>(index) + 0.5);
  const std::string sample = "M" + point_text(legend_left, y) + "h36";
  return in_colour(index, path_element("line", sample, dash_attribute(index)) +
                              path_element("mark", mark_path(index % num_marks, legend_left + 18, y))) +
         text_element(legend_text, y + 4.5, "name", shortened(name, longest_name));
}

/// Pixels that the names take; other letters than the Latin ones are wide.
double legend_width(const std::vector<curve>& curves) {
  double widest = 60;
  for (const curve& some : curves) {
    double width = 0;
    for (const char character : escaped(shortened(some.name, longest_name))) {
      width += static_cast<unsigned char>(character) < 0x80U ? 7.5 : 6.0; // of two bytes and more
    }
    widest = std::max(widest, width);
  }
  return std::ceil(widest);
}

} // namespace

std::string loss_chart(std::string_view title, std::string_view x_label, std::string_view y_label,
                       const std::vector<curve>& curves) {
  std::vector<drawn_curve> drawn;
  for (const curve& some : curves) {
    check(some);
    drawn.push_back({some, split(some)});
  }
  const double bottom = std::max(370.0, plot_top + entry_height * static_cast<double>(curves.size()));
  const double width = legend_text + legend_width(curves) + 12;
  const double height = bottom + 46;
  const frame in = frame_of(drawn, bottom);
  std::string bands;
  std::string lines;
  std::string legend;
  for (std::size_t i = 0; i < drawn.size(); ++i) {
    std::string band;
    std::string line;
    for (const run_of_points& run : drawn[i].runs) {
      if (has_band(drawn[i].source)) band += band_path(run, in);
      if (run.size() > 1) line += line_path(run, in);
    }
    bands += in_colour(i, path_element("band", band));
    lines += in_colour(i, path_element("line", line, dash_attribute(i)) +
                              path_element("mark", marks_path(drawn[i], i, drawn.size(), in)));
    legend += legend_entry(drawn[i].source.name, i);
  }
  return svg_file_head(width, height, title) + style + R"(<path class="back" d="M0 0h)" + place_text(width) +
         "v" + place_text(height) + "h-" + place_text(width) + "z\"/>\n" +
         text_element(4, 24, "title", shortened(title, longest_title)) +
         svg_axes(in.x, in.y, x_label, y_label) + bands + lines + legend + "</svg>\n";
}
