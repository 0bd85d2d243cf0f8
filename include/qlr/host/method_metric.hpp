// SPDX-FileCopyrightText: 2026 The qlr authors
// SPDX-License-Identifier: MIT
#pragma once

#include <qlr/core/parallel.hpp>
#include <qlr/decompose/calibration.hpp>
#include <qlr/decompose/metric.hpp>
#include <qlr/decompose/presets.hpp>
#include <qlr/host/covariance.hpp>

#include <concepts>
#include <string_view>
#include <utility>
#include <vector>

namespace qlr {

/// The kind of metric that errors are measured with.
enum class metric_kind { none, fisher, diagonal, covariance };

[[nodiscard]] constexpr std::string_view to_string(metric_kind kind) {
  switch (kind) {
  case metric_kind::none:
    return "none";
  case metric_kind::fisher:
    return "fisher";
  case metric_kind::diagonal:
    return "diagonal";
  case metric_kind::covariance:
    return "covariance";
  }
  return "";
}

/// What a method would measure errors with, given this calibration: the closest to what it asks for that
/// there is; a covariance falls back to the diagonal.
[[nodiscard]] inline metric_kind metric_kind_of(calibration_use use, const calibration_data& data) {
  const bool has_diagonal = !data.rms.empty() || !data.mean_abs.empty();
  const bool has_fisher = data.fisher.size() != 0;
  switch (use) {
  case calibration_use::none:
    return metric_kind::none;
  case calibration_use::fisher:
    return has_fisher ? metric_kind::fisher : metric_kind::none;
  case calibration_use::mean_abs:
  case calibration_use::rms:
    return has_diagonal ? metric_kind::diagonal : metric_kind::none;
  case calibration_use::covariance:
  case calibration_use::whatever_given:
    if (data.covariance.size() != 0) return metric_kind::covariance;
    if (use == calibration_use::whatever_given && has_fisher) return metric_kind::fisher;
    return has_diagonal ? metric_kind::diagonal : metric_kind::none;
  }
  return metric_kind::none;
}

/// The metric of a method for W (m,n): of the kind asked for, from calibration that host::complete has seen.
///
/// A diagonal is the mean magnitude for methods that use it, else the RMS, whichever there is.
/// @param data  must outlive the metric when the kind is fisher
/// @throws qlr::error invalid_argument: the calibration lacks what the kind needs
/// @throws qlr::error shape_mismatch, non_finite, invalid_argument: as make_metric, make_fisher_metric and
/// make_covariance_metric
/// @memory covariance: a copy of H, 8 n^2 bytes, besides what make_covariance_metric takes
/// @tparam Scalar  of the covariance; a parameter so that its root is compiled only where it is used
template <std::same_as<double> Scalar = double>
[[nodiscard]] metric make_method_metric(metric_kind kind, const preset& method, const calibration_data& data,
                                        index_t rows, index_t cols, const executor& run = {}) {
  const auto require_some = [kind](bool is_there, std::string_view parts) {
    require(is_there, status_code::invalid_argument, "metric is '", to_string(kind),
            "', the calibration has no ", parts);
  };
  switch (kind) {
  case metric_kind::none:
    return {};
  case metric_kind::fisher:
    require_some(data.fisher.size() != 0, "tensor of that name");
    return make_fisher_metric(data.fisher.view(), rows, cols);
  case metric_kind::covariance:
    require_some(data.covariance.size() != 0, "X and no covariance");
    return make_covariance_metric<Scalar>(data.covariance, {.damping = method.damping}, run);
  case metric_kind::diagonal:
    break;
  }
  require_some(!data.rms.empty() || !data.mean_abs.empty(), "X, rms, abs_mean or covariance");
  const bool takes_mean_abs =
      data.rms.empty() || (method.uses == calibration_use::mean_abs && !data.mean_abs.empty());
  std::vector<float> importance = takes_mean_abs ? data.mean_abs : data.rms;
  for (float& value : importance) value *= value;
  return make_metric({}, importance, rows, cols);
}

} // namespace qlr
