// SPDX-FileCopyrightText: 2026 The qlr authors
// SPDX-License-Identifier: MIT
#pragma once

// The fused product on the CPU, without Eigen; the instruction set is chosen at run time.

#include <qlr/matmul/call.hpp>
#include <qlr/matmul/prepack.hpp>
