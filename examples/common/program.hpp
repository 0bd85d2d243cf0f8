// SPDX-FileCopyrightText: 2026 The qlr authors
// SPDX-License-Identifier: MIT
#pragma once

#include <common/output.hpp>
#include <common/text.hpp>

#include <cstdio>
#include <cstdlib>
#include <exception>

/// The rest of main(): runs body(); what it throws becomes one line on standard error and exit status 2.
template <class Body>
int run_program(const char* name, Body&& body) {
  try {
    body();
    check_standard_output();
    return EXIT_SUCCESS;
  } catch (const std::exception& failure) {
    std::fprintf(stderr, "%s: %s\n", name, printable(failure.what()).c_str());
    return 2;
  }
}

/// The same for processes beside the first, whose messages the first one prints.
template <class Body>
int run_silently(Body&& body) {
  try {
    body();
    return EXIT_SUCCESS;
  } catch (const std::exception&) {
    return 2;
  }
}
