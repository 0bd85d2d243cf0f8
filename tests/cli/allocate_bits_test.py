#!/usr/bin/env python3
# SPDX-FileCopyrightText: 2026 The qlr authors
# SPDX-License-Identifier: MIT
"""Tests the command line of allocate_bits as scripts use it.

    allocate_bits_test.py BINARY [SUITE ...] [--data DIR]

A suite is a module of this folder without its _cases: allocate_plans, allocate_refusals; without any, all run.
"""

import pathlib
import sys

sys.dont_write_bytecode = True
sys.path.insert(0, str(pathlib.Path(__file__).resolve().parent))

import support  # noqa: E402

if __name__ == "__main__":
    sys.exit(support.main(["allocate_plans", "allocate_refusals"]))
