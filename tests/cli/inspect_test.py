#!/usr/bin/env python3
# SPDX-FileCopyrightText: 2026 The qlr authors
# SPDX-License-Identifier: MIT
"""Tests the example inspect through its command line.

    inspect_test.py BINARY [SUITE ...]

A suite is a module of this folder without its _cases: inspect_kinds, inspect_tables, inspect_refusals; without any,
all run.
"""

import pathlib
import sys

sys.dont_write_bytecode = True
sys.path.insert(0, str(pathlib.Path(__file__).resolve().parent))

import support  # noqa: E402

if __name__ == "__main__":
    sys.exit(support.main(["inspect_kinds", "inspect_tables", "inspect_refusals"]))
