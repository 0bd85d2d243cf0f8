# SPDX-FileCopyrightText: 2026 The qlr authors
# SPDX-License-Identifier: MIT
"""The design's bars for `best` against LoftQ and QERA-exact at equal bits and rank, measured by the command line."""

import unittest

import support
from support import CommandLineTest

SPEECH, GOLDEN = "weights/silero_vad_16k.safetensors", "golden/golden_inputs.safetensors"

# file, tensor, quantizer, largest error of best divided by that of LoftQ
BARS = [
    (SPEECH, "lstm_cell.weight_ih", "nf4", 0.70),
    (SPEECH, "lstm_cell.weight_hh", "nf4", 0.70),
    (SPEECH, "lstm_cell.weight_ih", "nf2", 0.58),
    (SPEECH, "lstm_cell.weight_hh", "nf2", 0.58),
    (GOLDEN, "W", "nf4", 0.90),
    (GOLDEN, "W", "nf2", 0.75),
]


# quantizer, largest output error of best divided by that of QERA-exact, both told of the inputs
CALIBRATED_BARS = [("nf4", 0.66), ("nf3", 0.64), ("nf2", 0.58)]


class BarTest(CommandLineTest):
    def test_best_is_better_than_qera_exact_by_the_bar(self):
        if support.DATA_DIR is None or not (support.DATA_DIR / GOLDEN).is_file():
            raise unittest.SkipTest("no reference data; give --data or QLR_TEST_DATA_DIR")
        golden = support.DATA_DIR.resolve() / GOLDEN
        for quantizer, bar in CALIBRATED_BARS:
            with self.subTest(quantizer=quantizer):
                options = [golden, "--tensor", "W", "--calibration", golden, "--quantizer", quantizer, "--rank", 16]
                qera = self.run_json(*options, "--method", "qera-exact")
                best = self.run_json(*options, "--method", "best")
                self.assertEqual(best["bits_per_weight"], qera["bits_per_weight"])
                ratio = best["relative_output_error"] / qera["relative_output_error"]
                print(f"W {quantizer}: {ratio:.4f}, bar {bar:.2f}", flush=True)
                self.assertLessEqual(ratio, bar)

    def test_best_is_better_than_loftq_by_the_bar(self):
        if support.DATA_DIR is None or not all((support.DATA_DIR / name).is_file() for name in (SPEECH, GOLDEN)):
            raise unittest.SkipTest("no reference data; give --data or QLR_TEST_DATA_DIR")
        for name, tensor, quantizer, bar in BARS:
            with self.subTest(tensor=tensor, quantizer=quantizer):
                options = [support.DATA_DIR.resolve() / name, "--tensor", tensor, "--quantizer", quantizer, "--rank", 16]
                loftq = self.run_json(*options, "--method", "loftq", "--iterations", 5)
                best = self.run_json(*options, "--method", "best")
                self.assertEqual(best["bits_per_weight"], loftq["bits_per_weight"])
                ratio = best["relative_error"] / loftq["relative_error"]
                print(f"{tensor} {quantizer}: {ratio:.4f}, bar {bar:.2f}", flush=True)
                self.assertLessEqual(ratio, bar)
