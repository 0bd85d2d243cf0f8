// SPDX-FileCopyrightText: 2026 The qlr authors
// SPDX-License-Identifier: MIT
#pragma once

#include <qlr/core/status.hpp>
#include <qlr/quant/formats.hpp>
#include <qlr/quant/range_rules.hpp>

#include <type_traits>
#include <utility>

namespace qlr::cuda {

namespace detail {

template <class... Quantizers>
struct quantizer_list {};

/// What an any_quantizer may hold on a device: all that the library's own functions make, and LQ-LoRA's and
/// bitsandbytes' forms of NF4.
using known_quantizers = quantizer_list<
    // named formats
    quantizer<uniform_grid<>, absmax_rule>, quantizer<uniform_grid<>, min_max_rule>,
    quantizer<uniform_grid<>, exact_range_rule>, quantizer<codebook_grid<2>, absmax_rule>,
    quantizer<codebook_grid<3>, absmax_rule>, quantizer<codebook_grid<4>, absmax_rule>,
    quantizer<codebook_grid<8>, absmax_rule>, quantizer<e2m1_grid, absmax_rule>,
    quantizer<codebook_grid<1>, mean_magnitude_rule>,
    quantizer<uniform_grid<>, shared_exponent_rule<exponent_rounding::floor>>,
    quantizer<uniform_grid<>, shared_exponent_rule<exponent_rounding::ceil>>,
    quantizer<e2m1_grid, shared_exponent_rule<exponent_rounding::floor>>,
    quantizer<uniform_grid<tie_rule::half_up>, signed_max_rule, split_half_packing>,
    quantizer<codebook_grid<4>, refitted_signed_max_rule, split_half_packing>,
    quantizer<uniform_grid<tie_rule::half_away>, absmax_rule>,
    // adapters
    quantizer<codebook_grid<1>, padded_mean_rule>, quantizer<uniform_grid<>, tight_range_rule>,
    quantizer<uniform_grid<>, searched_range_rule>,
    // other tools' forms
    quantizer<codebook_grid<4>, absmax_rule, msb_first_packing>,
    quantizer<codebook_grid<2>, largest_magnitude_rule>, quantizer<codebook_grid<3>, largest_magnitude_rule>,
    quantizer<codebook_grid<4>, largest_magnitude_rule>, quantizer<codebook_grid<8>, largest_magnitude_rule>>;

template <class Visitor, class First, class... Rest>
decltype(auto) visit_known(const any_quantizer& quantizer, Visitor&& visit, quantizer_list<First, Rest...>) {
  if (const First* concrete = quantizer.target<First>()) return visit(*concrete);
  if constexpr (sizeof...(Rest) > 0) {
    return visit_known(quantizer, std::forward<Visitor>(visit), quantizer_list<Rest...>{});
  } else {
    fail(status_code::unsupported, "quantizer ", quantizer.name(),
         " is of a type without device code; pass the quantizer<Grid, Rule, Packing> itself");
  }
}

} // namespace detail

/// Calls visit(concrete) with the quantizer<Grid, Rule, Packing> inside and returns what it returns.
///
/// @throws qlr::error unsupported: the type inside is none of detail::known_quantizers
template <class Visitor>
decltype(auto) visit_device_quantizer(const any_quantizer& quantizer, Visitor&& visit) {
  return detail::visit_known(quantizer, std::forward<Visitor>(visit), detail::known_quantizers{});
}

/// The same for a quantizer of a known type; its grid and rule need not be the library's, but their functions
/// must be QLR_HOST_DEVICE.
template <class Grid, class Rule, class Packing, class Visitor>
decltype(auto) visit_device_quantizer(const quantizer<Grid, Rule, Packing>& quantizer, Visitor&& visit) {
  return std::forward<Visitor>(visit)(quantizer);
}

} // namespace qlr::cuda
