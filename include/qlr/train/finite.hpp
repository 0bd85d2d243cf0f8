// SPDX-FileCopyrightText: 2026 The qlr authors
// SPDX-License-Identifier: MIT
#pragma once

#include <qlr/core/status.hpp>
#include <qlr/train/parameter.hpp>

#include <cmath>
#include <concepts>
#include <span>
#include <string_view>
#include <vector>

namespace qlr::train {

namespace detail {

template <std::floating_point T>
[[noreturn]] void fail_not_finite(index_t step, double loss, const parameter_view<T>& p, index_t i,
                                  std::string_view what, double value) {
  fail(status_code::non_finite, "step ", step, ": the loss is ", loss, "; ", what, p.name, '(', i / p.cols,
       ", ", i % p.cols, ") is ", value);
}

template <std::floating_point T>
[[nodiscard]] const parameter_view<T>* largest_parameter(std::span<const parameter_view<T>> parameters,
                                                         index_t& at) {
  const parameter_view<T>* found = nullptr;
  T largest = -1;
  for (const parameter_view<T>& p : parameters) {
    for (index_t i = 0; i < p.size(); ++i) {
      if (std::fabs(p.value(i)) <= largest) continue;
      largest = std::fabs(p.value(i));
      found = &p;
      at = i;
    }
  }
  return found;
}

} // namespace detail

/// Throws unless the loss and all gradients are finite; to be called between the backward pass and the
/// optimizer's step, so that parameters keep their last values.
///
/// The message names the step and the first parameter with a value or gradient that is not finite; where only
/// the loss is not, the parameter that has the largest magnitude.
/// @throws qlr::error non_finite
/// @complexity one pass over the gradients
template <std::floating_point T>
void require_finite_step(index_t step, double loss, std::span<const parameter_view<T>> parameters) {
  for (const parameter_view<T>& p : parameters) {
    for (index_t i = 0; i < p.size(); ++i) {
      if (is_finite(p.gradient[i]) && is_finite(p.value(i))) continue;
      const bool is_value = !is_finite(p.value(i));
      detail::fail_not_finite(step, loss, p, i, is_value ? "parameter " : "the gradient of ",
                              static_cast<double>(is_value ? p.value(i) : p.gradient[i]));
    }
  }
  if (is_finite(loss)) return;
  index_t at = 0;
  const parameter_view<T>* largest = detail::largest_parameter(parameters, at);
  require(largest != nullptr, status_code::non_finite, "step ", step, ": the loss is ", loss,
          ", and there are no parameters");
  detail::fail_not_finite(step, loss, *largest, at, "all parameters are finite, the largest ",
                          static_cast<double>(largest->value(at)));
}

/// @copydoc require_finite_step
template <std::floating_point T>
void require_finite_step(index_t step, double loss, const std::vector<parameter_view<T>>& parameters) {
  require_finite_step(step, loss, std::span<const parameter_view<T>>(parameters));
}

} // namespace qlr::train
