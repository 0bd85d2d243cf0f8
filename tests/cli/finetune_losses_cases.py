# SPDX-FileCopyrightText: 2026 The qlr authors
# SPDX-License-Identifier: MIT
"""What is learned in some steps."""

from finetune_support import FinetuneTest

MEDIUM = ["--texts", 160, "--held-out", 16, "--steps", 20, "--seeds", 1]


class LossesTest(FinetuneTest):
    def test_a_better_start_ends_lower(self):
        runs = self.train("--methods", "qlora,loftq,best", *MEDIUM)["runs"]
        after = {(run["method"], run["bits"]): run["held_out_loss"][-1] for run in runs}
        print(after, flush=True)
        # Measured: best 1.256, 0.989, 0.950; loftq 2.315, 1.066, 0.964; qlora 3.156, 1.223, 0.983.
        for bits in (2, 3, 4):
            self.assertLess(after["best", bits], after["loftq", bits])
            self.assertLess(after["best", bits], after["qlora", bits])

    def test_everything_learns_the_new_name(self):
        runs = self.train("--bits", 3, *MEDIUM)["runs"]
        for run in runs:
            with self.subTest(method=run["method"]):
                print(run["method"], run["held_out_loss"], flush=True)
                # Measured: 0.33 (best) to 0.84 lower.
                self.assertLess(run["held_out_loss"][-1], run["held_out_loss"][0] - 0.15)
