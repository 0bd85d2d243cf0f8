// SPDX-FileCopyrightText: 2026 The qlr authors
// SPDX-License-Identifier: MIT
#pragma once

#include <qlr/core/matrix.hpp>
#include <qlr/quant/formats.hpp>
#include <qlr/quant/quantized_matrix.hpp>

#include <algorithm>
#include <optional>

namespace qlr {

namespace detail {

[[nodiscard]] inline bool has_same_codes(const quantized_layout& a, const quantized_layout& b) {
  return a.bits == b.bits && a.order == b.order && a.zeros == b.zeros && a.scales == b.scales &&
         a.group_size == b.group_size;
}

} // namespace detail

/// The quantizer whose output a matrix looks like: format name, layout and level table are the same.
///
/// Nothing where the name is of no format, or stands for something else here, as for levels of somebody
/// else's making. Whether the scales were searched for is not stored: the result follows the format's rule.
[[nodiscard]] inline std::optional<any_quantizer> rebuild_quantizer(const quantized_matrix& q) {
  const auto* const format = std::ranges::find(named_formats, q.format_name(), &format_description::name);
  if (format == named_formats.end() || q.rows() == 0 || q.cols() == 0) return std::nullopt;
  const quantized_layout& layout = q.layout();
  const bool has_default_group = layout.group_size == format->group_size;
  const bool has_default_scales = layout.scales == format->scales;
  if (format->is_fixed && !(has_default_group && has_default_scales)) return std::nullopt;
  if (layout.group_size > layout.cols && !has_default_group) return std::nullopt;
  format_options options;
  if (!has_default_group) options.group_size = layout.group_size;
  if (!has_default_scales) options.scales = layout.scales;
  any_quantizer quantizer = make_quantizer(format->name, options);
  if (!detail::has_same_codes(quantizer.layout(q.rows(), q.cols()), layout)) return std::nullopt;
  const matrix<float> zeros(1, q.cols(), 0.0F); // the table of levels comes with every result
  const quantized_matrix sample = quantizer.quantize(zeros.view(), {}, {});
  const bool has_same_levels =
      sample.levels().size() == q.levels().size() && std::ranges::equal(sample.levels(), q.levels());
  if (!has_same_levels) return std::nullopt;
  return quantizer;
}

} // namespace qlr
