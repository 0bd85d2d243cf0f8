// SPDX-FileCopyrightText: 2026 The qlr authors
// SPDX-License-Identifier: MIT
#pragma once

#include <cstddef>
#include <string>
#include <string_view>
#include <vector>

struct tick {
  double value = 0;
  std::string text;
};

/// A range of numbers along a range of places in the drawing.
struct axis {
  double low = 0;
  double high = 1;
  bool is_log = false;
  double begin = 0; // place of low
  double end = 1;   // place of high
  std::vector<tick> ticks{};

  [[nodiscard]] double place(double value) const;
};

/// Round numbers around all values; from 0 where the values are not close together.
[[nodiscard]] axis linear_axis(const std::vector<double>& values, double begin, double end);

/// Round numbers around all values, wherever 0 is.
[[nodiscard]] axis close_axis(const std::vector<double>& values, double begin, double end);

/// Exactly low to high, with ticks at whole numbers.
[[nodiscard]] axis counting_axis(double low, double high, double begin, double end);

/// Powers of ten around positive values.
[[nodiscard]] axis log_axis(const std::vector<double>& values, double begin, double end);

/// A place in the drawing, in tenths.
[[nodiscard]] std::string place_text(double place);

/// "x y".
[[nodiscard]] std::string point_text(double x, double y);

/// Begins a drawing that is as wide as there is room.
[[nodiscard]] std::string svg_head(double width, double height, std::string_view label);

/// Begins a drawing that is a file of its own and so many pixels large.
[[nodiscard]] std::string svg_file_head(double width, double height, std::string_view label);

/// Lines and numbers of both axes, and what they count; the labels are plain text.
[[nodiscard]] std::string svg_axes(const axis& x, const axis& y, std::string_view x_label,
                                   std::string_view y_label);

/// Path of the mark of a series around a place; each series has a shape of its own.
[[nodiscard]] std::string mark_path(std::size_t series, double x, double y);
