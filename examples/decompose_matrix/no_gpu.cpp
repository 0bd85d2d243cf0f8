// SPDX-FileCopyrightText: 2026 The qlr authors
// SPDX-License-Identifier: MIT
#include <decompose_matrix/gpu.hpp>

#include <qlr/core/status.hpp>

void require_gpu() {
  qlr::fail(qlr::status_code::unsupported,
            "device is 'cuda', this program was built without CUDA; allowed is cpu");
}

qlr::decompose_result decompose_on_gpu(qlr::matrix_view<const float> /*weight*/,
                                       const qlr::any_quantizer& /*quantizer*/,
                                       const qlr::decompose_options& /*options*/,
                                       const qlr::metric& /*weights*/) {
  require_gpu();
  return {};
}
