#!/usr/bin/env python3
# SPDX-FileCopyrightText: 2026 The qlr authors
# SPDX-License-Identifier: MIT
"""Tests the language model of the example story through its command line.

    story_test.py BINARY [SUITE ...] [--data DIR]

A suite is a module of this folder without its _cases: story_models, story_packed, story_plan, story_refusals,
story_text, story_quality; without any, all run. The last two need the reference data; a run in which everything was skipped for want of it
ends with 77.
"""

import pathlib
import sys

sys.dont_write_bytecode = True
sys.path.insert(0, str(pathlib.Path(__file__).resolve().parent))

import support  # noqa: E402

if __name__ == "__main__":
    sys.exit(support.main(["story_models", "story_packed", "story_compressed", "story_plan", "story_refusals", "story_text", "story_quality"]))
