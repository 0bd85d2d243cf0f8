// SPDX-FileCopyrightText: 2026 The qlr authors
// SPDX-License-Identifier: MIT
#include <common/svg.hpp>

#include <common/markup.hpp>

#include <algorithm>
#include <array>
#include <cmath>
#include <cstdio>

namespace {

constexpr int wanted_ticks = 5;
constexpr const char* svg_begin = R"(<svg xmlns="http://www.w3.org/2000/svg")";

/// The round number 1, 2 or 5 times a power of ten that is at least the value.
double round_step(double value) {
  const double power = std::pow(10, std::floor(std::log10(value)));
  for (const double factor : {1.0, 2.0, 5.0}) {
    if (factor * power >= value * (1 - 1e-9)) return factor * power;
  }
  return 10 * power;
}

/// Multiples of the step from low to high, with as many decimals as the step has.
std::vector<tick> ticks_between(double low, double high, double step) {
  std::vector<tick> ticks;
  const double exponent = std::floor(std::log10(step) + 1e-9);
  const bool is_plain = exponent >= -5 && std::max(std::abs(low), std::abs(high)) < 1e6;
  for (double i = std::ceil(low / step - 1e-6) + 0.0; i * step <= high + 1e-6 * step && ticks.size() < 20;
       ++i) {
    std::array<char, 64> text{};
    if (is_plain) {
      const int decimals = std::max(0, -static_cast<int>(exponent));
      (void)std::snprintf(text.data(), text.size(), "%.*f", decimals, i * step);
    } else {
      (void)std::snprintf(text.data(), text.size(), "%.3g", i * step);
    }
    ticks.push_back({i * step, text.data()});
  }
  return ticks;
}

axis axis_around(double low, double high, double begin, double end) {
  axis result{.begin = begin, .end = end};
  const double step = round_step((high - low) / wanted_ticks);
  result.low = std::floor(low / step + 1e-6) * step;
  result.high = std::ceil(high / step - 1e-6) * step;
  result.ticks = ticks_between(result.low, result.high, step);
  return result;
}

std::string text_at(double x, double y, const char* anchor, std::string_view text) {
  return "<text x=\"" + place_text(x) + "\" y=\"" + place_text(y) + "\" text-anchor=\"" + anchor + "\">" +
         escaped(text) + "</text>\n";
}

std::string svg_shape(double width, double height, std::string_view label) {
  return R"( viewBox="0 0 )" + point_text(width, height) + R"(" role="img" aria-label=")" + escaped(label) +
         "\">\n";
}

std::string line(const char* kind, double x1, double y1, double x2, double y2) {
  return std::string("<path class=\"") + kind + "\" d=\"M" + point_text(x1, y1) + "L" + point_text(x2, y2) +
         "\"/>\n";
}

} // namespace

double axis::place(double value) const {
  const double share = is_log ? std::log(value / low) / std::log(high / low) : (value - low) / (high - low);
  return begin + std::clamp(share, 0.0, 1.0) * (end - begin);
}

axis linear_axis(const std::vector<double>& values, double begin, double end) {
  double low = 0;
  double high = 1;
  if (!values.empty()) {
    const auto [least, most] = std::ranges::minmax(values);
    const double span = std::max(most - least, 0.1 * std::abs(most));
    low = least > 0.5 * most ? most - 1.1 * span : std::min(least, 0.0);
    high = most > low ? most : low + 1;
  }
  return axis_around(low, high, begin, end);
}

axis close_axis(const std::vector<double>& values, double begin, double end) {
  if (values.empty()) return axis_around(0, 1, begin, end);
  const auto [least, most] = std::ranges::minmax(values);
  const double size = std::max(std::abs(least), std::abs(most));
  if (size < 1e-290) return axis_around(0, 1, begin, end);           // the step would underflow
  const double margin = std::max(0.0, 0.05 * size - (most - least)); // values all but equal: in the middle
  return axis_around(least - margin, most + margin, begin, end);
}

axis counting_axis(double low, double high, double begin, double end) {
  axis result{.low = low, .high = high, .begin = begin, .end = end};
  result.ticks = ticks_between(low, high, std::max(1.0, round_step((high - low) / (wanted_ticks + 2))));
  return result;
}

axis log_axis(const std::vector<double>& values, double begin, double end) {
  double first = -1; // exponents of ten
  double last = 0;
  if (!values.empty()) {
    const auto [least, most] = std::ranges::minmax(values);
    first = std::floor(std::log10(least) + 1e-9);
    last = std::max(std::ceil(std::log10(most) - 1e-9), first + 1);
  }
  axis result{
      .low = std::pow(10, first), .high = std::pow(10, last), .is_log = true, .begin = begin, .end = end};
  const double stride = std::ceil((last - first) / wanted_ticks);
  for (double exponent = last; exponent >= first; exponent -= stride) {
    for (const double factor : {5.0, 2.0, 1.0}) {
      const double value = factor * std::pow(10, exponent);
      if ((factor == 1 || last - first <= 2) && value <= result.high * 1.001)
        result.ticks.push_back({value, number_text(value, 1)});
    }
  }
  return result;
}

std::string place_text(double place) {
  std::array<char, 32> text{};
  (void)std::snprintf(text.data(), text.size(), "%.1f", place);
  const std::string_view shown(text.data());
  return std::string(shown.ends_with(".0") ? shown.substr(0, shown.size() - 2) : shown);
}

std::string point_text(double x, double y) {
  return place_text(x) + " " + place_text(y);
}

std::string svg_head(double width, double height, std::string_view label) {
  return svg_begin + svg_shape(width, height, label);
}

std::string svg_file_head(double width, double height, std::string_view label) {
  return std::string(svg_begin) + R"( width=")" + place_text(width) + R"(" height=")" + place_text(height) +
         '"' + svg_shape(width, height, label);
}

std::string svg_axes(const axis& x, const axis& y, std::string_view x_label, std::string_view y_label) {
  std::string result = "<g class=\"axes\">\n";
  for (const tick& mark : y.ticks) {
    const double place = y.place(mark.value);
    result += line("grid", x.begin, place, x.end, place);
    result += text_at(x.begin - 6, place + 4, "end", mark.text);
  }
  for (const tick& mark : x.ticks) {
    const double place = x.place(mark.value);
    result += line("base", place, y.begin, place, y.begin + 4);
    result += text_at(place, y.begin + 17, "middle", mark.text);
  }
  result += line("base", x.begin, y.begin, x.end, y.begin);
  result += text_at((x.begin + x.end) / 2, y.begin + 34, "middle", x_label);
  return result + text_at(4, y.end - 10, "start", y_label) +
         "</g>\n"; // above the axis: reads without turning
}

std::string mark_path(std::size_t series, double x, double y) {
  constexpr std::array<const char*, 9> shapes{
      "m-3.2 0a3.2 3.2 0 1 0 6.4 0a3.2 3.2 0 1 0-6.4 0z",          // disc
      "m-2.9-2.9h5.8v5.8h-5.8z",                                   // square
      "m0-4.2l4 7h-8z",                                            // triangle
      "m0-4.4l4.4 4.4l-4.4 4.4l-4.4-4.4z",                         // diamond
      "m0 4.2l4-7h-8z",                                            // triangle on its point
      "m-1.3-4h2.6v2.7h2.7v2.6h-2.7v2.7h-2.6v-2.7h-2.7v-2.6h2.7z", // cross
      "m-4.5-1.5h9v3h-9z",                                         // bar
      "m-1.5-4.5h3v9h-3z",                                         // upright bar
      "m-1.6 0a1.6 1.6 0 1 0 3.2 0a1.6 1.6 0 1 0-3.2 0z"};
  return "M" + point_text(x, y) + shapes.at(std::min(series, shapes.size() - 1));
}
