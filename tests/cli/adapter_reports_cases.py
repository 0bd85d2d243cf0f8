# SPDX-FileCopyrightText: 2026 The qlr authors
# SPDX-License-Identifier: MIT
"""What quantize_adapter prints and writes, checked in double."""

import math

from adapter_support import LAYER, AdapterTest
from support import norm, product, read_safetensors, relative_error, unpack


class ReportTest(AdapterTest):
    def test_errors_are_those_of_the_written_adapter(self):
        for refine in ("none", "sgd", "als"):
            (self.folder / "out").mkdir(exist_ok=True)
            report = self.run_json("a", "--refine", refine, "--peft", "out", "--peft-type", "fp32")
            self.assertEqual(report["refine"], refine)
            metadata, tensors = read_safetensors(self.folder / "out/adapter_model.safetensors")
            total, size = 0.0, 0.0
            for pair, name in zip(report["pairs"], ("q_proj", "v_proj")):
                self.assertEqual(pair["module"], f"model.layers.0.{name}")
                left = unpack(tensors[f"{LAYER}{name}.lora_B.weight"])
                right = unpack(tensors[f"{LAYER}{name}.lora_A.weight"])
                exact = product(*self.factors[name])
                error = relative_error(exact, product(left, right))
                self.assert_near(pair["relative_error"], error, 1e-4)
                self.assertLess(error, 0.9)
                self.assertEqual(pair["scale"], 2.0 if name == "q_proj" else 3.0)
                total += (pair["scale"] * error * norm(exact)) ** 2
                size += (pair["scale"] * norm(exact)) ** 2
            self.assert_near(report["relative_error"], math.sqrt(total / size), 1e-4)
            self.assertIn("base_model.model.lm_head.weight", tensors)
            written = (self.folder / "out/adapter_config.json").read_bytes()
            self.assertEqual(written, (self.folder / "a/adapter_config.json").read_bytes())

    def test_least_squares_beat_rounding_at_the_same_bits(self):
        plain, fitted = self.run_json("a"), self.run_json("a", "--refine", "als")
        self.assertLess(fitted["relative_error"], 0.95 * plain["relative_error"])
        self.assertEqual(fitted["bits_with_scales"], plain["bits_with_scales"])

    def test_bits_follow_the_options(self):
        report = self.run_json("a", "--high-bits", "3", "--ratio", "1")
        self.assertEqual(report["bits_without_scales"], 3.0)
        self.assertGreater(report["bits_with_scales"], 3.0)
        self.assertEqual([p["split_rank"] for p in report["pairs"]], [6, 4])
        report = self.run_json("a", "--ratio", "0")
        self.assertEqual([p["split_rank"] for p in report["pairs"]], [1, 1])
        smaller = self.run_json("a", "--ratio", "0", "--group-size", "8")
        self.assertGreater(smaller["bits_with_scales"], report["bits_with_scales"])

    def test_the_packed_file_is_as_large_as_reported_and_the_same_on_any_number_of_threads(self):
        report = self.run_json("a", "--refine", "als", "--output", "p.safetensors", "--threads", "1")
        metadata, tensors = read_safetensors(self.folder / "p.safetensors")
        self.assertEqual((metadata["qlr.format"], metadata["qlr.pairs"]), ("adapter", "2"))
        stored = sum(len(content) for name, (_, _, content) in tensors.items() if not name.endswith(".levels"))
        self.assertEqual(stored, report["packed_bytes"])
        self.run_ok("a", "--refine", "als", "--output", "q.safetensors", "--threads", "2")
        self.assertEqual((self.folder / "p.safetensors").read_bytes(), (self.folder / "q.safetensors").read_bytes())

    def test_the_table_has_a_line_for_each_pair_and_one_for_all(self):
        lines = self.run_ok("a").splitlines()
        self.assertEqual(len(lines), 4)
        self.assertIn("q_proj", lines[1])
        self.assertIn("40x50", lines[1])
        self.assertTrue(lines[3].startswith("all "))
        self.assertEqual(self.run_ok("a/adapter_model.safetensors", "--quiet"), "")
