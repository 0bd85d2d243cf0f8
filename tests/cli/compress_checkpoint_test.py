#!/usr/bin/env python3
# SPDX-FileCopyrightText: 2026 The qlr authors
# SPDX-License-Identifier: MIT
"""Tests the example compress_checkpoint through its command line.

    compress_checkpoint_test.py BINARY [SUITE ...] [--data DIR]

A suite is a module of this folder without its _cases; without any, all run.
"""

import pathlib
import sys

sys.dont_write_bytecode = True
sys.path.insert(0, str(pathlib.Path(__file__).resolve().parent))

import support  # noqa: E402

if __name__ == "__main__":
    sys.exit(support.main(["checkpoint_input", "checkpoint_formats", "checkpoint_shared", "checkpoint_page",
                           "checkpoint_resume"]))
