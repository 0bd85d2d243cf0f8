// SPDX-FileCopyrightText: 2026 The qlr authors
// SPDX-License-Identifier: MIT
#pragma once

#include <string_view>

namespace qlr::train {

/// How the weights that training leaves alone are kept.
enum class frozen_storage {
  fp32,
  bf16,
  fixed8 ///< 8 bits: the code's bits before the point, the others behind it; beyond the levels it saturates
};

[[nodiscard]] constexpr std::string_view to_string(frozen_storage storage) {
  switch (storage) {
  case frozen_storage::fp32:
    return "fp32";
  case frozen_storage::bf16:
    return "bf16";
  case frozen_storage::fixed8:
    return "fixed8";
  }
  return "";
}

} // namespace qlr::train
