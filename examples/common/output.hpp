// SPDX-FileCopyrightText: 2026 The qlr authors
// SPDX-License-Identifier: MIT
#pragma once

#include <initializer_list>
#include <string>

/// Refuses outputs that could not be written, before any work is done for them; empty paths are ignored.
///
/// @throws qlr::error io_failure: a path cannot be written;  invalid_argument: it is given twice
void check_outputs(std::initializer_list<std::string> paths);

/// Writes text to a file that appears complete or not at all, or to standard output for "-".
///
/// @throws qlr::error io_failure: the file cannot be written
void write_text(const std::string& path, const std::string& text);

/// @throws qlr::error io_failure: something printed so far was not written
void check_standard_output();
