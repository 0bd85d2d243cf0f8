# SPDX-FileCopyrightText: 2026 The qlr authors
# SPDX-License-Identifier: MIT
"""How much of the trained model is left; limits are about twice what was measured, see each test."""

from story_support import RealStoryTest


class QualityTest(RealStoryTest):
    reports: dict = {}  # of runs that several tests look at

    def evaluate(self, *arguments) -> dict:
        if arguments not in self.reports:
            self.reports[arguments] = self.run_evaluation(*arguments)
        return self.reports[arguments]

    def run_evaluation(self, quantizer: str, method: str, rank: int, *options) -> dict:
        found = self.report("--quantizer", quantizer, "--method", method, "--rank", rank, "--tokens", 0, "--evaluate",
                            *options)
        print({key: found[key] for key in ("quantizer", "method", "precision", "perplexity", "kl_divergence")}, flush=True)
        return found

    def test_fp32_weights_lose_nothing(self):
        found = self.report("--method", "none", "--tokens", 0, "--evaluate")
        self.assertEqual((found["kl_divergence"], found["top1_agreement"]), (0.0, 1.0))
        self.assertEqual(found["perplexity"], found["perplexity_fp32"])
        # A model this small, on texts of its own: 3.76; 512 would be a model that knows nothing.
        self.assertTrue(3.5 < found["perplexity"] < 4.0, found["perplexity"])
        self.assertGreater(found["evaluated_tokens"], 2000)
        self.assertEqual((found["bits_per_weight"], found["packed_bytes"]), (32.0, 4 * 226560))
        for key in ("quantizer", "group_size", "scale", "factor_bits", "rank", "instruction_set", "precision",
                    "relative_error", "seconds_decompose"):
            self.assertIsNone(found[key], key)

    def test_8_bits_lose_almost_nothing(self):
        found = self.evaluate("int8", "qlora", 0)
        self.assertLess(found["kl_divergence"], 1e-3)  # measured 4.5e-4
        self.assertGreater(found["top1_agreement"], 0.98)  # measured 0.990
        self.assert_near(found["perplexity"], found["perplexity_fp32"], 0.005)
        self.assertEqual(found["packed_bytes"] * 8, found["bits_per_weight"] * 226560)

    def test_a_low_rank_part_helps_4_bits_and_2_bits_are_far_worse(self):
        plain = self.evaluate("nf4", "qlora", 0)
        best = self.evaluate("nf4", "best", 4)
        coarse = self.evaluate("nf2", "best", 4)
        self.assertLess(plain["kl_divergence"], 0.2)  # measured 0.118
        self.assertLess(best["kl_divergence"], 0.6 * plain["kl_divergence"])  # measured 0.39
        self.assertGreater(best["top1_agreement"], plain["top1_agreement"])
        self.assertGreater(coarse["kl_divergence"], 10 * best["kl_divergence"])  # measured 32
        for found in (plain, best, coarse):
            self.assertGreater(found["perplexity"], found["perplexity_fp32"])

    def test_precisions_of_the_product_agree(self):
        exact = self.evaluate("nf4", "best", 4)["kl_divergence"]
        bf16 = self.evaluate("nf4", "best", 4, "--precision", "bf16")["kl_divergence"]
        int8 = self.evaluate("nf4", "best", 4, "--precision", "int8")["kl_divergence"]
        self.assertNotEqual(bf16, exact)  # it did run
        self.assert_near(bf16, exact, 0.002)  # measured 0.0001
        self.assertNotEqual(int8, exact)
        self.assert_near(int8, exact, 0.05)  # measured 0.018

    def test_the_report_says_what_was_run(self):
        found = self.evaluate("int4", "loftq", 2, "--iterations", 1, "--isa", "scalar", "--threads", 2, "--seed", 9)
        expected = {"quantizer": "int4", "method": "loftq", "rank": 2, "group_size": 64, "scale": "fp16", "seed": 9,
                    "instruction_set": "scalar", "precision": "exact", "threads": 2, "temperature": 0.0, "text": ""}
        self.assertEqual({key: found[key] for key in expected}, expected)
        self.assertTrue(found["qlr_version"])
