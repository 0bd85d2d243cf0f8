// SPDX-FileCopyrightText: 2026 The qlr authors
// SPDX-License-Identifier: MIT
// EXPECT: (no matching function|could not find)

#include <qlr/host/decompose.hpp>

#ifdef QLR_MISTAKE
using element = int;
#else
using element = double;
#endif

qlr::decompose_result run(const Eigen::Matrix<element, Eigen::Dynamic, Eigen::Dynamic>& weight,
                          const qlr::any_quantizer& quantizer) {
  return qlr::decompose(weight, quantizer, qlr::decompose_options());
}
