#!/usr/bin/env python3
# SPDX-FileCopyrightText: 2026 The qlr authors
# SPDX-License-Identifier: MIT
"""Tests the training of the example finetune_story through its command line.

    finetune_story_test.py BINARY [SUITE ...] [--data DIR]

A suite is a module of this folder without its _cases: finetune_refusals, finetune_reports, finetune_resume,
finetune_losses; without any, all run. All but the first need the reference data; a run in which everything was skipped for
want of it ends with 77.
"""

import pathlib
import sys

sys.dont_write_bytecode = True
sys.path.insert(0, str(pathlib.Path(__file__).resolve().parent))

import support  # noqa: E402

if __name__ == "__main__":
    sys.exit(support.main(["finetune_refusals", "finetune_reports", "finetune_resume", "finetune_losses"]))
