// SPDX-FileCopyrightText: 2026 The qlr authors
// SPDX-License-Identifier: MIT
#pragma once

#include <qlr/core/parallel.hpp>
#include <qlr/core/types.hpp>
#include <qlr/decompose/calibration.hpp>
#include <qlr/host/activation_statistics.hpp>

#include <algorithm>
#include <cmath>
#include <concepts>
#include <utility>
#include <vector>

namespace qlr::host {

/// Fills the statistics of a calibration that follow from what it has; what it has stays as it is.
///
/// From X: mean_abs (X being one batch), rms, largest and, unless left out, the covariance. Without X, rms
/// from the diagonal of the covariance.
/// @throws qlr::error non_finite: X has an element that is not finite; the data is then unchanged
/// @complexity O(t n), with the covariance t n^2 / 2 multiply-adds
/// @memory with the covariance 16 n^2 bytes, of which 8 n^2 stay
template <std::same_as<calibration_data> Data>
void complete(Data& data, const executor& run = {}, covariance_mode mode = covariance_mode::kept) {
  if (data.activations.size() != 0) {
    const bool wants_covariance = mode == covariance_mode::kept && data.covariance.size() == 0;
    activation_statistics statistics(data.activations.cols(),
                                     wants_covariance ? covariance_mode::kept : covariance_mode::left_out);
    statistics.add(std::as_const(data.activations).view(), run);
    if (wants_covariance) data.covariance = statistics.covariance();
    if (data.mean_abs.empty()) data.mean_abs = statistics.mean_abs();
    if (data.rms.empty()) data.rms = statistics.rms();
    if (data.largest.empty()) data.largest = statistics.largest();
  } else if (data.covariance.size() != 0 && data.rms.empty()) {
    for (index_t j = 0; j < data.covariance.rows(); ++j) {
      data.rms.push_back(static_cast<float>(std::sqrt(std::max(0.0, data.covariance(j, j)))));
    }
  }
}

} // namespace qlr::host
