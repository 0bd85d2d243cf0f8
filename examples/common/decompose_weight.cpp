// SPDX-FileCopyrightText: 2026 The qlr authors
// SPDX-License-Identifier: MIT
#include <common/decompose_weight.hpp>

#include <qlr/host/decompose.hpp>
#include <qlr/host/method_metric.hpp>
#include <qlr/host/output_error.hpp>

#include <algorithm>

qlr::decompose_result decompose_weight(qlr::matrix_view<const float> weight,
                                       const qlr::any_quantizer& quantizer,
                                       const qlr::decompose_options& options, const qlr::metric& weights,
                                       const qlr::executor& run) {
  return qlr::decompose(weight, quantizer, options, weights, run);
}

named_metric make_named_metric(const qlr::preset& method, const qlr::calibration_data& data,
                               std::string_view forced, qlr::index_t rows, qlr::index_t cols,
                               const qlr::executor& run) {
  qlr::metric_kind kind = qlr::metric_kind_of(method.uses, data);
  for (const qlr::metric_kind named : {qlr::metric_kind::none, qlr::metric_kind::fisher,
                                       qlr::metric_kind::diagonal, qlr::metric_kind::covariance}) {
    if (forced == to_string(named)) kind = named;
  }
  return {to_string(kind), qlr::make_method_metric(kind, method, data, rows, cols, run)};
}

std::optional<double> relative_output_error(qlr::matrix_view<const float> weight,
                                            qlr::matrix_view<const float> approximate,
                                            const qlr::calibration_data& data, const qlr::executor& run) {
  if (data.activations.size() != 0) {
    return qlr::host::relative_output_error(weight, approximate, data.activations, run);
  }
  if (data.covariance.size() == 0) return std::nullopt;
  return qlr::host::relative_output_error(weight, approximate, data.covariance, run);
}

namespace {

std::vector<float> to_vector(const qlr::matrix<float>& row) {
  return {row.data(), row.data() + row.size()};
}

} // namespace

std::vector<float> leading_singular_values(qlr::matrix_view<const float> weight, qlr::index_t count,
                                           std::uint64_t seed, const qlr::executor& run) {
  const qlr::host::eigen_backend backend(run);
  qlr::randomized_svd_options options;
  options.seed = seed;
  qlr::randomized_svd<qlr::host::eigen_backend> solver(options);
  const qlr::index_t most = std::min({count, weight.rows(), weight.cols()});
  return to_vector(solver.solve(backend, qlr::to_row_major(weight), most).values);
}

std::vector<float> singular_values_of_product(const qlr::decomposition& parts, const qlr::executor& run) {
  if (parts.rank() == 0) return {};
  // R = U^T S V, so that L R = (L U^T S) V has the singular values of L U^T S.
  const qlr::host::eigen_backend backend(run);
  const auto [u, s, v] = backend.small_svd(parts.right); // (r,r), (1,r), (r,n)
  qlr::matrix<float> scaled(u.rows(), u.cols());         // S U
  for (qlr::index_t i = 0; i < u.rows(); ++i) {
    for (qlr::index_t j = 0; j < u.cols(); ++j) scaled(i, j) = s(0, i) * u(i, j);
  }
  qlr::matrix<float> product(parts.rank(), parts.rows()); // S U L^T (r,m)
  backend.gemm(qlr::transpose::yes, parts.scale, scaled, parts.left, 0.0F, product);
  return to_vector(backend.small_svd(product).values);
}
