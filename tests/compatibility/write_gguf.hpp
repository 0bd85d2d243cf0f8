// SPDX-FileCopyrightText: 2026 The qlr authors
// SPDX-License-Identifier: MIT
#pragma once

#include <string>

/// Writes FOLDER/ours.gguf with one matrix in every block type, FOLDER/input.npy, and what each decodes to.
void write_gguf_files(const std::string& folder);
