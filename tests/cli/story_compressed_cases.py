# SPDX-FileCopyrightText: 2026 The qlr authors
# SPDX-License-Identifier: MIT
"""The trained model through compress_checkpoint, which is built beside story, and back into story."""

import pathlib
import shutil
import subprocess
import unittest

import support
from story_support import RealStoryTest


class CompressedTest(RealStoryTest):
    def setUp(self):
        super().setUp()
        self.compressor = pathlib.Path(support.BINARY).parent / "compress_checkpoint"
        if not self.compressor.is_file():
            raise unittest.SkipTest("compress_checkpoint was not built beside story")
        (self.folder / "in").mkdir()
        shutil.copy(self.files[0], self.folder / "in" / "model.safetensors")

    def evaluate(self, quantizer: str) -> dict:
        done = subprocess.run([self.compressor, "in", quantizer, "--method", "best", "--quantizer", quantizer, "--rank", "4",
                               "--quiet"], cwd=self.folder, capture_output=True, text=True, timeout=300)
        self.assertEqual((done.returncode, done.stderr), (0, ""))
        found = self.run_json(quantizer, *self.files[1:], "--tokens", 0, "--evaluate", "--reference", self.files[0])
        print({key: found[key] for key in ("perplexity", "perplexity_fp32", "kl_divergence", "bits_per_weight")}, flush=True)
        return found

    def test_4_and_3_bits(self):
        four, three = self.evaluate("nf4"), self.evaluate("nf3")
        direct = self.report("--quantizer", "nf4", "--method", "best", "--rank", 4, "--tokens", 0, "--evaluate")
        for key in ("perplexity", "perplexity_fp32", "kl_divergence", "packed_bytes"):  # the same decompositions
            self.assertEqual(four[key], direct[key], key)
        self.assertLess(four["perplexity"], 1.2 * four["perplexity_fp32"])  # measured 1.053
        self.assertGreater(three["perplexity"], four["perplexity"])
        self.assertLess(three["perplexity"], 2 * three["perplexity_fp32"])
