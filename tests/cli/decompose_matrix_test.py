#!/usr/bin/env python3
# SPDX-FileCopyrightText: 2026 The qlr authors
# SPDX-License-Identifier: MIT
"""Tests the command line of decompose_matrix as scripts use it.

    decompose_matrix_test.py BINARY [SUITE ...] [--data DIR]

A suite is a module of this folder without its _cases: options, reports, refusals, bars; without any, all run.
The bars need the reference data; a run in which everything was skipped for want of it ends with 77.
"""

import argparse
import importlib
import os
import pathlib
import sys
import unittest

sys.dont_write_bytecode = True
sys.path.insert(0, str(pathlib.Path(__file__).resolve().parent))

import support  # noqa: E402

SUITES = ["options", "reports", "refusals", "bars"]
SKIPPED = 77


def main() -> int:
    parser = argparse.ArgumentParser()
    parser.add_argument("binary")
    parser.add_argument("suites", nargs="*", default=[])
    parser.add_argument("--data", default=os.environ.get("QLR_TEST_DATA_DIR"))
    arguments = parser.parse_args()
    unknown = [name for name in arguments.suites if name not in SUITES]
    if unknown:
        parser.error(f"unknown suite {unknown[0]}, there are {', '.join(SUITES)}")
    support.BINARY = str(pathlib.Path(arguments.binary).resolve())
    support.DATA_DIR = pathlib.Path(arguments.data) if arguments.data else None

    tests = unittest.TestSuite()
    for name in arguments.suites or SUITES:
        tests.addTests(unittest.defaultTestLoader.loadTestsFromModule(importlib.import_module(f"{name}_cases")))
    result = unittest.TextTestRunner(verbosity=2).run(tests)
    for _, reason in result.skipped:
        print(f"SKIPPED: {reason}")
    if not result.wasSuccessful() or result.testsRun == 0:
        return 1
    return SKIPPED if len(result.skipped) == result.testsRun else 0


if __name__ == "__main__":
    sys.exit(main())
