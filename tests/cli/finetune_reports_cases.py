# SPDX-FileCopyrightText: 2026 The qlr authors
# SPDX-License-Identifier: MIT
"""What finetune_story reports, and that it does not depend on threads."""

import math
import xml.etree.ElementTree as xml

from finetune_support import METHODS, SHORT, FinetuneTest, losses


class ReportsTest(FinetuneTest):
    def test_every_method_learns_at_every_number_of_bits(self):
        found = self.train(*SHORT)
        runs = {(run["method"], run["bits"]): run for run in found["runs"]}
        self.assertEqual(set(runs), {("full", 0), *((name, bits) for name in METHODS[1:] for bits in (2, 3, 4))})
        for run in runs.values():
            with self.subTest(method=run["method"], bits=run["bits"]):
                self.assertEqual(run["evaluated_at"], [0, 3, 6])
                self.assertEqual(len(run["training_loss"]), 6)
                for loss in run["training_loss"] + run["held_out_loss"]:
                    self.assertTrue(math.isfinite(loss) and 0 < loss < 12, loss)
                self.assertNotEqual(run["held_out_loss"][0], run["held_out_loss"][-1])
        # 226,560 weights: 4 bytes each, as many gradients, and two moments.
        full = runs["full", 0]
        sizes = [full[key] for key in ("weight_bytes", "gradient_bytes", "optimizer_bytes")]
        self.assertEqual(sizes, [4 * 226560, 4 * 226560, 8 * 226560])
        for name, share in (("qlora", 0.35), ("loqt", 0.35), ("lr-qat", 0.55)):  # measured 0.30, 0.30, 0.50
            self.assertLess(runs[name, 2]["weight_bytes"], share * full["weight_bytes"])
            self.assertLess(runs[name, 4]["optimizer_bytes"], full["optimizer_bytes"] / 4)

    def test_fewer_bits_start_from_a_higher_loss(self):
        runs = self.train("--methods", "qlora,loftq,best,loqt", *SHORT)["runs"]
        before = {(run["method"], run["bits"]): run["held_out_loss"][0] for run in runs}
        for name in ("qlora", "loftq", "best", "loqt"):
            for bits in (3, 4):  # these two are close on texts as few as these
                self.assertGreater(before[name, 2], before[name, bits])
        self.assertLess(before["best", 2], before["loftq", 2])
        self.assertLess(before["loftq", 2], before["qlora", 2])
        for bits in (2, 3, 4):
            self.assertEqual(before["loqt", bits], before["qlora", bits])  # both the same Q alone

    def test_any_number_of_threads_gives_the_same_bits(self):
        options = ["--methods", "full,best,loqt,lr-qat,lrq", "--bits", "3", *SHORT]
        expected = losses(self.train(*options, "--threads", 1))
        for threads in (2, 3):
            self.assertEqual(losses(self.train(*options, "--threads", threads)), expected)

    def test_seeds_and_storage_change_the_losses(self):
        options = ["--methods", "qlora,lrq,lr-qat,loqt,full", "--bits", "4", *SHORT[:-2]]
        runs = self.train(*options, "--seeds", 2)["runs"]
        by_seed = {(run["method"], run["seed"]): run["training_loss"] for run in runs}
        for name in ("qlora", "lrq", "lr-qat", "loqt", "full"):
            self.assertNotEqual(by_seed[name, 1], by_seed[name, 2])
        for run in self.train(*options, "--seeds", 1, "--storage", "bf16")["runs"]:
            exact = by_seed[run["method"], 1]
            self.assertNotEqual(run["training_loss"], exact)
            # bf16 has 8 bits: a loss moves by some percent at most.
            self.assertLess(abs(run["training_loss"][-1] - exact[-1]), 0.1 * exact[-1])

    def test_the_plain_task_is_easier_than_the_shifted_one(self):
        options = ["--methods", "full", *SHORT]
        plain = self.train(*options, "--task", "plain")["runs"][0]["held_out_loss"][0]
        shifted = self.train(*options)["runs"][0]["held_out_loss"][0]
        self.assertLess(plain, shifted)

    def test_from_scratch_begins_knowing_nothing(self):
        run = self.train("--methods", "full,loqt", "--bits", "4", "--from-scratch", *SHORT)["runs"][0]
        self.assertLess(abs(run["held_out_loss"][0] - math.log(512)), 0.1)
        self.assertLess(run["held_out_loss"][-1], run["held_out_loss"][0])
        # Embedding and norms: 512 x 64 and 11 x 64 more gradients than weights of linear layers.
        self.assertEqual(run["gradient_bytes"], 4 * (226560 + 512 * 64 + 11 * 64))

    def test_table_and_curves(self):
        text = self.run_ok(*self.model, "--methods", "full,qlora", "--bits", "2,4", "--output", "out", *SHORT)
        rows = [line.split()[:2] for line in text.splitlines()[4:]]
        self.assertEqual(rows, [["-", "full"], ["2", "qlora"], ["4", "qlora"]])
        self.assertEqual(sorted(self.listing()), ["out", "out/loss_2bit.svg", "out/loss_4bit.svg"])
        for bits in (2, 4):
            drawing = xml.parse(self.folder / "out" / f"loss_{bits}bit.svg").getroot()
            self.assertTrue(drawing.tag.endswith("svg"))
            words = " ".join(drawing.itertext())
            for part in ("full", "qlora", f"{bits} bits", "steps"):
                self.assertIn(part, words)
        self.assertEqual(self.run_ok(*self.model, "--methods", "full", "--quiet", *SHORT), "")
