// SPDX-FileCopyrightText: 2026 The qlr authors
// SPDX-License-Identifier: MIT
#include <support/feedback.hpp>

#include <qlr/host/coupled_rounding.hpp>

#include <utility>

namespace qlr::test {

host_coupling couple(const input_covariance& h, const matrix<float>& right, const feedback_options& options,
                     coupling_use use) {
  host::column_coupling made = host::make_coupling(h, right, options, use, {});
  return {std::move(made.order), std::move(made.feedback), std::move(made.descent),
          std::move(made.importance)};
}

quantized_matrix feed_back(const any_quantizer& quantizer, const matrix<float>& w, const input_covariance& h,
                           const matrix<float>& right, const feedback_options& options, const executor& run) {
  const host::column_coupling coupling = host::make_coupling(h, right, options, coupling_use::feedback, run);
  quantize_hints hints;
  hints.column_weights = coupling.importance.data();
  return host::round_with_feedback(quantizer, w, coupling, hints, options.descents, run);
}

quantized_matrix descend(const any_quantizer& quantizer, const quantized_matrix& q, const matrix<float>& w,
                         const input_covariance& h, const matrix<float>& right, int passes,
                         const executor& run, const feedback_options& options) {
  const host::column_coupling coupling = host::make_coupling(h, right, options, coupling_use::descent, run);
  return host::round_by_descent(quantizer, q, w, coupling, passes, run);
}

} // namespace qlr::test
