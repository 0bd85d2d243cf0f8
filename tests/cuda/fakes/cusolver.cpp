// SPDX-FileCopyrightText: 2026 The qlr authors
// SPDX-License-Identifier: MIT

// The functions of cuSOLVER that the library calls, column-major as the real ones, by textbook methods.
#include <cuda/fakes/column_major.hpp>
#include <cuda/fakes/fake_device.hpp>

#include <cusolverDn.h>

#include <algorithm>
#include <cmath>
#include <cstdint>
#include <limits>
#include <numeric>
#include <vector>

struct cusolverDnContext {
  cudaStream_t stream = nullptr;
};

namespace {

using qlr::test::column_major;
using qlr::test::fake_device;
using qlr::test::is_device_matrix;
using qlr::test::the_fake_device;

using doubles = column_major<double>;

/// What every routine is given besides its matrix; the workspace is spoilt, as a routine would.
template <class T>
bool has_workspace(T* work, int given, int needed, const int* info) {
  const auto bytes = static_cast<std::size_t>(std::max(0, given)) * sizeof(T);
  if (given < needed || !fake_device::is_device_memory(work, bytes) ||
      !fake_device::is_device_memory(info, sizeof(int)))
    return false;
  std::fill_n(work, given, std::numeric_limits<T>::quiet_NaN());
  return true;
}

/// The lower Cholesky factor in place; returns the order of the first minor that is not positive, 0 if all
/// are.
int cholesky(const doubles& a, int n) {
  for (int j = 0; j < n; ++j) {
    double pivot = a(j, j);
    for (int l = 0; l < j; ++l) pivot -= a(j, l) * a(j, l);
    if (!(pivot > 0)) return j + 1;
    a(j, j) = std::sqrt(pivot);
    for (int i = j + 1; i < n; ++i) {
      double sum = a(i, j);
      for (int l = 0; l < j; ++l) sum -= a(i, l) * a(j, l);
      a(i, j) = sum / a(j, j);
    }
  }
  return 0;
}

/// Rotates columns p and q of the symmetric a so that a(p,q) vanishes; v collects the rotations.
void rotate(std::vector<double>& a, std::vector<double>& v, int n, int p, int q) {
  const auto at = [n](int i, int j) { return static_cast<std::size_t>(j * n + i); };
  const double tau = (a[at(q, q)] - a[at(p, p)]) / (2.0 * a[at(p, q)]);
  const double t = (tau >= 0 ? 1.0 : -1.0) / (std::fabs(tau) + std::hypot(1.0, tau));
  const double c = 1.0 / std::hypot(1.0, t);
  const double s = t * c;
  for (int i = 0; i < n; ++i) {
    const double x = a[at(i, p)];
    const double y = a[at(i, q)];
    a[at(i, p)] = c * x - s * y;
    a[at(i, q)] = s * x + c * y;
  }
  for (int i = 0; i < n; ++i) {
    const double x = a[at(p, i)];
    const double y = a[at(q, i)];
    a[at(p, i)] = c * x - s * y;
    a[at(q, i)] = s * x + c * y;
    const double left = v[at(i, p)];
    const double right = v[at(i, q)];
    v[at(i, p)] = c * left - s * right;
    v[at(i, q)] = s * left + c * right;
  }
}

/// Eigenvalues ascending, eigenvectors in the columns of a: Jacobi's method.
void eigendecompose(const doubles& a, int n, bool is_lower, double* values) {
  std::vector<double> full(static_cast<std::size_t>(n * n));
  std::vector<double> vectors(full.size(), 0.0);
  double norm = 0;
  for (int j = 0; j < n; ++j) {
    vectors[static_cast<std::size_t>(j * n + j)] = 1.0;
    for (int i = 0; i < n; ++i) {
      const bool is_stored = is_lower ? i >= j : i <= j;
      full[static_cast<std::size_t>(j * n + i)] = is_stored ? a(i, j) : a(j, i);
      norm += std::pow(full[static_cast<std::size_t>(j * n + i)], 2);
    }
  }
  const double negligible = 1e-17 * std::sqrt(norm);
  for (int sweep = 0; sweep < 40; ++sweep) {
    bool has_rotated = false;
    for (int p = 0; p < n; ++p) {
      for (int q = p + 1; q < n; ++q) {
        if (std::fabs(full[static_cast<std::size_t>(q * n + p)]) <= negligible) continue;
        rotate(full, vectors, n, p, q);
        has_rotated = true;
      }
    }
    if (!has_rotated) break;
  }
  std::vector<int> order(static_cast<std::size_t>(n));
  std::iota(order.begin(), order.end(), 0);
  const auto value = [&](int k) { return full[static_cast<std::size_t>(k * n + k)]; };
  std::sort(order.begin(), order.end(), [&](int k, int l) { return value(k) < value(l); });
  for (int k = 0; k < n; ++k) {
    const int from = order[static_cast<std::size_t>(k)];
    values[k] = value(from);
    for (int i = 0; i < n; ++i) a(i, k) = vectors[static_cast<std::size_t>(from * n + i)];
  }
}

/// Householder vectors below the diagonal, v(j,j) = 1 implied, R above: H_j = I - tau_j v_j v_j^T.
void householder(const doubles& a, int m, int n, double* tau) {
  for (int j = 0; j < std::min(m, n); ++j) {
    double square = 0;
    for (int i = j + 1; i < m; ++i) square += a(i, j) * a(i, j);
    if (square == 0) {
      tau[j] = 0;
      continue;
    }
    const double first = a(j, j);
    const double length = std::sqrt(first * first + square);
    const double beta = first >= 0 ? -length : length;
    tau[j] = (beta - first) / beta;
    for (int i = j + 1; i < m; ++i) a(i, j) /= first - beta;
    a(j, j) = beta;
    for (int col = j + 1; col < n; ++col) {
      double dot = a(j, col);
      for (int i = j + 1; i < m; ++i) dot += a(i, j) * a(i, col);
      dot *= tau[j];
      a(j, col) -= dot;
      for (int i = j + 1; i < m; ++i) a(i, col) -= dot * a(i, j);
    }
  }
}

/// The first n columns of H_0 H_1 ... H_(k-1).
void form_basis(const doubles& a, int m, int n, int k, const double* tau) {
  const auto at = [m](int i, int j) { return static_cast<std::size_t>(j * m + i); };
  std::vector<double> q(static_cast<std::size_t>(m * n), 0.0);
  for (int j = 0; j < n; ++j) q[at(j, j)] = 1.0;
  for (int j = k - 1; j >= 0; --j) {
    for (int col = 0; col < n; ++col) {
      double dot = q[at(j, col)];
      for (int i = j + 1; i < m; ++i) dot += a(i, j) * q[at(i, col)];
      dot *= tau[j];
      q[at(j, col)] -= dot;
      for (int i = j + 1; i < m; ++i) q[at(i, col)] -= dot * a(i, j);
    }
  }
  for (int j = 0; j < n; ++j) {
    for (int i = 0; i < m; ++i) a(i, j) = q[at(i, j)];
  }
}

} // namespace

extern "C" {

cusolverStatus_t cusolverDnCreate(cusolverDnHandle_t* handle) {
  if (!the_fake_device().has_device) return CUSOLVER_STATUS_NOT_INITIALIZED;
  *handle = new cusolverDnContext;
  ++the_fake_device().live_handles;
  return CUSOLVER_STATUS_SUCCESS;
}
cusolverStatus_t cusolverDnDestroy(cusolverDnHandle_t handle) {
  if (handle == nullptr) return CUSOLVER_STATUS_NOT_INITIALIZED;
  delete handle;
  --the_fake_device().live_handles;
  return CUSOLVER_STATUS_SUCCESS;
}
cusolverStatus_t cusolverDnSetStream(cusolverDnHandle_t handle, cudaStream_t stream) {
  if (handle == nullptr) return CUSOLVER_STATUS_NOT_INITIALIZED;
  handle->stream = stream;
  return CUSOLVER_STATUS_SUCCESS;
}

cusolverStatus_t cusolverDnDpotrf_bufferSize(cusolverDnHandle_t handle, cublasFillMode_t, int n, double* a,
                                             int lda, int* size) {
  if (handle == nullptr) return CUSOLVER_STATUS_NOT_INITIALIZED;
  if (!is_device_matrix(a, n, n, lda)) return CUSOLVER_STATUS_INVALID_VALUE;
  *size = n + 3;
  return CUSOLVER_STATUS_SUCCESS;
}
cusolverStatus_t cusolverDnDpotrf(cusolverDnHandle_t handle, cublasFillMode_t uplo, int n, double* a, int lda,
                                  double* work, int size, int* info) {
  if (handle == nullptr) return CUSOLVER_STATUS_NOT_INITIALIZED;
  if (!is_device_matrix(a, n, n, lda) || !has_workspace(work, size, n + 3, info))
    return CUSOLVER_STATUS_INVALID_VALUE;
  // A = U^T U has the lower factor U^T in the transposed storage.
  *info = cholesky({a, lda, uplo == CUBLAS_FILL_MODE_UPPER}, n);
  return CUSOLVER_STATUS_SUCCESS;
}

cusolverStatus_t cusolverDnDsyevd_bufferSize(cusolverDnHandle_t handle, cusolverEigMode_t, cublasFillMode_t,
                                             int n, const double* a, int lda, const double* values,
                                             int* size) {
  if (handle == nullptr) return CUSOLVER_STATUS_NOT_INITIALIZED;
  if (!is_device_matrix(a, n, n, lda) || !is_device_matrix(values, n, 1, n))
    return CUSOLVER_STATUS_INVALID_VALUE;
  *size = 2 * n + 5;
  return CUSOLVER_STATUS_SUCCESS;
}
cusolverStatus_t cusolverDnDsyevd(cusolverDnHandle_t handle, cusolverEigMode_t mode, cublasFillMode_t uplo,
                                  int n, double* a, int lda, double* values, double* work, int size,
                                  int* info) {
  if (handle == nullptr) return CUSOLVER_STATUS_NOT_INITIALIZED;
  if (mode != CUSOLVER_EIG_MODE_VECTOR || !is_device_matrix(a, n, n, lda) ||
      !is_device_matrix(values, n, 1, n) || !has_workspace(work, size, 2 * n + 5, info))
    return CUSOLVER_STATUS_INVALID_VALUE;
  eigendecompose({a, lda}, n, uplo == CUBLAS_FILL_MODE_LOWER, values);
  *info = 0;
  return CUSOLVER_STATUS_SUCCESS;
}

cusolverStatus_t cusolverDnDgeqrf_bufferSize(cusolverDnHandle_t handle, int m, int n, double* a, int lda,
                                             int* size) {
  if (handle == nullptr) return CUSOLVER_STATUS_NOT_INITIALIZED;
  if (!is_device_matrix(a, m, n, lda)) return CUSOLVER_STATUS_INVALID_VALUE;
  *size = n + 1;
  return CUSOLVER_STATUS_SUCCESS;
}
cusolverStatus_t cusolverDnDgeqrf(cusolverDnHandle_t handle, int m, int n, double* a, int lda, double* tau,
                                  double* work, int size, int* info) {
  if (handle == nullptr) return CUSOLVER_STATUS_NOT_INITIALIZED;
  if (!is_device_matrix(a, m, n, lda) ||
      !is_device_matrix(tau, std::min(m, n), 1, std::max(1, std::min(m, n))) ||
      !has_workspace(work, size, n + 1, info))
    return CUSOLVER_STATUS_INVALID_VALUE;
  householder({a, lda}, m, n, tau);
  *info = 0;
  return CUSOLVER_STATUS_SUCCESS;
}

cusolverStatus_t cusolverDnDorgqr_bufferSize(cusolverDnHandle_t handle, int m, int n, int k, const double* a,
                                             int lda, const double*, int* size) {
  if (handle == nullptr) return CUSOLVER_STATUS_NOT_INITIALIZED;
  if (m < n || n < k || !is_device_matrix(a, m, n, lda)) return CUSOLVER_STATUS_INVALID_VALUE;
  *size = n + 2;
  return CUSOLVER_STATUS_SUCCESS;
}
cusolverStatus_t cusolverDnDorgqr(cusolverDnHandle_t handle, int m, int n, int k, double* a, int lda,
                                  const double* tau, double* work, int size, int* info) {
  if (handle == nullptr) return CUSOLVER_STATUS_NOT_INITIALIZED;
  if (m < n || n < k || !is_device_matrix(a, m, n, lda) || !is_device_matrix(tau, k, 1, std::max(1, k)) ||
      !has_workspace(work, size, n + 2, info))
    return CUSOLVER_STATUS_INVALID_VALUE;
  form_basis({a, lda}, m, n, k, tau);
  *info = 0;
  return CUSOLVER_STATUS_SUCCESS;
}

} // extern "C"
