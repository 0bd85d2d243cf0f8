// SPDX-FileCopyrightText: 2026 The qlr authors
// SPDX-License-Identifier: MIT
#include <support/cpu.hpp>

#include <qlr/host/backend.hpp>
#include <qlr/host/covariance.hpp>
#include <support/decompose.hpp>

namespace qlr::test {

using backend = host::eigen_backend;

void cpu_backend::copy_rows(const matrix<float>& in, index_t in_first, matrix<float>& out,
                            index_t out_first) {
  backend::copy_rows(in, in_first, out, out_first);
}
void cpu_backend::copy_cols(const matrix<float>& in, matrix<float>& out) {
  backend::copy_cols(in, out);
}
void cpu_backend::gemm(transpose tb, float alpha, const matrix<float>& a, const matrix<float>& b, float beta,
                       matrix<float>& out) {
  backend().gemm(tb, alpha, a, b, beta, out);
}
void cpu_backend::fill_random(matrix<float>& out, index_t first_row, std::uint64_t seed) {
  backend().fill_random(out, first_row, seed);
}
void cpu_backend::scale_rows(matrix<float>& x, const matrix<float>& values, float power) {
  backend::scale_rows(x, values, power);
}
void cpu_backend::scale_cols(matrix<float>& x, const std::vector<float>& weights, bool invert) {
  backend::scale_cols(x, weights, invert);
}
void cpu_backend::apply_metric(const metric& weights, matrix<float>& x) {
  backend().apply_metric(weights, x);
}
void cpu_backend::solve_gram(const matrix<float>& basis, matrix<float>& rhs) {
  backend().solve_gram(basis, rhs);
}
void cpu_backend::subtract_product(matrix_view<const float> weight, const matrix<float>& left,
                                   const matrix<float>& right, matrix<float>& out) {
  backend().subtract_product(weight, left, right, out);
}
matrix<float> cpu_backend::row_norms(const matrix<float>& x) {
  return backend::row_norms(x);
}
double cpu_backend::dot(const matrix<float>& a, const matrix<float>& b) {
  return backend::dot(a, b);
}

decompose_result decompose_on_cpu(matrix_view<const float> weight, const any_quantizer& quantizer,
                                  const decompose_options& options, const metric& weights) {
  return decompose(weight, quantizer, options, weights);
}

metric covariance_metric(const matrix<double>& covariance, double damping) {
  return make_covariance_metric(matrix<double>(covariance), {.damping = damping});
}

} // namespace qlr::test
