// SPDX-FileCopyrightText: 2026 The qlr authors
// SPDX-License-Identifier: MIT
#include <compress_checkpoint/processes.hpp>

processes::processes(int& /*argc*/, char**& /*argv*/) {}

processes::~processes() = default;

void processes::agree(const std::string& /*complaint*/) const {} // together() throws where it failed
