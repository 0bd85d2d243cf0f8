# SPDX-FileCopyrightText: 2026 The qlr authors
# SPDX-License-Identifier: MIT
"""quantize_adapter on the adapter of the reference data."""

import unittest

import support
from support import CommandLineTest

AUTHORS = ["--scale", "fp32", "--split", "before", "--range", "tight"]


class GoldenTest(CommandLineTest):
    def setUp(self):
        super().setUp()
        self.file = support.DATA_DIR and support.DATA_DIR / "golden/golden_inputs.safetensors"
        if self.file is None or not self.file.is_file():
            raise unittest.SkipTest("no reference data; give --data or QLR_TEST_DATA_DIR")

    def test_the_figures_of_the_authors(self):
        report = self.run_json(self.file, "--high-bits", "3", "--ratio", "0.8", *AUTHORS)
        self.assert_near(report["relative_error"], 0.4498158, 1e-4)
        self.assertEqual(report["bits_without_scales"], 1.375)
        descended = self.run_json(self.file, "--refine", "sgd", *AUTHORS)
        self.assertLessEqual(descended["relative_error"], 0.5459964)

    def test_least_squares_are_far_below_at_equal_bits(self):
        report = self.run_json(self.file, "--refine", "als", "--split", "before")
        self.assertEqual(report["bits_without_scales"], 1.25)
        self.assertLess(report["relative_error"], 0.42)
