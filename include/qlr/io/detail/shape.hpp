// SPDX-FileCopyrightText: 2026 The qlr authors
// SPDX-License-Identifier: MIT
#pragma once

#include <qlr/core/types.hpp>

#include <limits>
#include <optional>
#include <span>
#include <string>

namespace qlr::io::detail {

/// "[2, 3]".
[[nodiscard]] inline std::string shape_text(std::span<const index_t> shape) {
  std::string text = "[";
  for (const index_t extent : shape) {
    if (text.size() > 1) text += ", ";
    text += std::to_string(extent);
  }
  return text + "]";
}

/// Bytes of a tensor with extents >= 0, or nothing when its non-zero extents alone overflow index_t.
///
/// Zeros are left out of the overflow check so that the answer does not depend on the order of the extents
/// and any product of some of them is safe to compute.
[[nodiscard]] inline std::optional<index_t> tensor_bytes(std::span<const index_t> shape,
                                                         index_t element_bytes) {
  index_t product = element_bytes;
  bool is_empty = false;
  for (const index_t extent : shape) {
    is_empty = is_empty || extent == 0;
    if (extent == 0) continue;
    if (product > std::numeric_limits<index_t>::max() / extent) return std::nullopt;
    product *= extent;
  }
  return is_empty ? 0 : product;
}

} // namespace qlr::io::detail
