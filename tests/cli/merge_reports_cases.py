# SPDX-FileCopyrightText: 2026 The qlr authors
# SPDX-License-Identifier: MIT
"""What merge_adapter prints and writes, checked in double."""

import json

from merge_support import COLS, GROUP, LAYER, RANK, ROWS, STEP, MergeTest, decomposition_bytes
from support import add, norm, read_safetensors, relative_error, tensor


class ConcatenateTest(MergeTest):
    def test_the_product_is_the_sum_and_the_codes_stay(self):
        report = self.run_json("b.safetensors", "a", "--output", "o.safetensors")
        before, after = self.decoded("b.safetensors"), self.decoded("o.safetensors")
        self.assertEqual(after[:2], before[:2])
        self.assertEqual(after[2], add(before[2], self.delta()))
        self.assertEqual((report["way"], report["rank_before"], report["rank"]), ("concatenate", RANK, RANK + 1))
        self.assertEqual((report["factors"], report["relative_error"]), ("fp16", 0.0))
        self.assertEqual(report["adapter_scale"], 2.0)
        self.assertEqual(report["bytes"] - report["bytes_before"], 2 * (ROWS + COLS))

    def test_storage_is_raised_or_as_asked_for(self):
        self.write_adapter(0.1)
        report = self.run_json("b.safetensors", "a", "--output", "o.safetensors")
        self.assertEqual((report["factors_before"], report["factors"]), ("fp16", "fp32"))
        self.assertEqual(report["relative_error"], 0.0)
        report = self.run_json("b.safetensors", "a", "--factor-bits", "16", "--output", "o.safetensors")
        self.assertEqual(report["factors"], "fp16")
        change = add(self.decoded("o.safetensors")[2], self.decoded("b.safetensors")[2], -1.0)
        self.assert_near(report["relative_error"], relative_error(self.delta(), change))
        self.assertGreater(report["relative_error"], 0)

    def test_table(self):
        text = self.run_ok("b.safetensors", "a")
        self.assertIn("model.layers.0.q_proj", text)
        self.assertIn("2 -> 3", text)
        self.assertEqual(self.run_ok("b.safetensors", "a", "--quiet"), "")

    def test_the_output_can_be_a_base_again_and_take_the_place_of_its_own(self):
        for rank in (RANK + 1, RANK + 2):
            report = self.run_json("b.safetensors", "a", "--output", "b.safetensors")
            self.assertEqual(report["rank"], rank)

    def test_a_weight_of_a_checkpoint(self):
        name = "model.layers.0.q_proj.weight"
        content = decomposition_bytes(self.codes, self.left, self.right, f"{name}.",
                                      {"qlr.format": "checkpoint", "qlr.version": "1"})
        (self.folder / "c").mkdir()
        self.write("c/model.safetensors", content)
        self.run_ok("b.safetensors", "a", "--quiet", "--output", "x.safetensors")
        for options in ([], ["--weight", name]):
            self.run_ok("c", "a", "--quiet", "--output", "y.safetensors", *options)
            self.assertEqual(read_safetensors(self.folder / "x.safetensors"),
                             read_safetensors(self.folder / "y.safetensors"))
        self.check_refused(["c", "a", "--weight", "other", "--output", "z"], "'other'")

    def test_a_pair_is_found_by_the_end_of_its_name(self):
        self.write_adapter(STEP, {f"{LAYER}v_proj.lora_B.weight": tensor([[1.0]] * 3),
                                  f"{LAYER}v_proj.lora_A.weight": tensor([[1.0] * 5])})
        for module in ("q_proj", "layers.0.q_proj", "model.layers.0.q_proj"):
            report = self.run_json("b.safetensors", "a", "--module", module)
            self.assertEqual(report["module"], "model.layers.0.q_proj")


class MergeReportTest(MergeTest):
    def test_on_the_grid_everything_survives(self):
        report = self.run_json("b.safetensors", "a", "--merge", "--output", "o.safetensors")
        before, after = self.decoded("b.safetensors"), self.decoded("o.safetensors")
        self.assertEqual(after[1], add(before[1], self.delta()))
        self.assertEqual(after[2], before[2])
        merge = report["merge"]
        self.assertEqual((merge["survived_share"], report["relative_error"], merge["is_lossy"]), (1.0, 0.0, False))
        self.assertEqual((merge["changed_codes"], merge["num_codes"]),
                         (ROWS * (COLS - COLS // GROUP), ROWS * COLS))
        self.assert_near(merge["relative_delta"], norm(self.delta()) / norm(before[1]))
        self.assertEqual((report["way"], report["rank"]), ("merge", RANK))

    def test_below_half_a_step_nothing_does(self):
        self.write_adapter(0.4 * STEP)
        report = self.run_json("b.safetensors", "a", "--merge", "--force", "--output", "o.safetensors")
        self.assertEqual((report["relative_error"], report["merge"]["survived_share"]), (1.0, 0.0))
        self.assertEqual((report["merge"]["changed_codes"], report["merge"]["is_lossy"]), (0, True))
        self.assertEqual(self.decoded("o.safetensors"), self.decoded("b.safetensors"))
        self.assertIn("lossy", self.run_ok("b.safetensors", "a", "--merge", "--force"))

    def test_between_the_report_is_what_was_written(self):
        self.write_adapter(1.7 * STEP)
        for scales in ("kept", "refitted", "best"):
            report = self.run_json("b.safetensors", "a", "--merge", "--scales", scales, "--largest-error", "0.5",
                                   "--output", "o.safetensors")
            change = add(self.decoded("o.safetensors")[1], self.decoded("b.safetensors")[1], -1.0)
            self.assert_near(report["relative_error"], relative_error(self.delta(), change))
            self.assertGreater(report["relative_error"], 0.05)
            changed = sum(p != q for a, b in zip(self.decoded("o.safetensors")[0], self.codes)
                          for p, q in zip(a, b))
            self.assertEqual(report["merge"]["changed_codes"], changed)

    def test_the_result_does_not_depend_on_threads(self):
        self.write_adapter(1.7 * STEP)
        for threads in (1, 3):
            self.run_ok("b.safetensors", "a", "--merge", "--force", "--threads", threads, "--quiet", "--output",
                        f"{threads}.safetensors", "--json", f"{threads}.json")
        self.assertEqual(self.listing()["1.safetensors"], self.listing()["3.safetensors"])
        self.assertEqual(self.listing()["1.json"], self.listing()["3.json"])
        self.assertEqual(json.loads(self.listing()["1.json"])["way"], "merge")
