// SPDX-FileCopyrightText: 2026 The qlr authors
// SPDX-License-Identifier: MIT
#pragma once

#include <merge_adapter/arguments.hpp>

#include <qlr/decompose/result.hpp>
#include <qlr/io/peft.hpp>

/// The pair that --module names, in full or by what follows a point, or the only one.
///
/// @throws qlr::error invalid_argument: none or several; the message lists modules
[[nodiscard]] const qlr::io::peft_pair& find_pair(const qlr::io::peft_file& adapter, const arguments& args);

/// The decomposition that the pair belongs to.
///
/// @throws qlr::error as the readers; invalid_argument: --weight for a file with one decomposition
[[nodiscard]] qlr::decomposition read_base(const arguments& args, const qlr::io::peft_pair& pair);
