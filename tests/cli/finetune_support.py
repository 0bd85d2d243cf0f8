# SPDX-FileCopyrightText: 2026 The qlr authors
# SPDX-License-Identifier: MIT
"""Short runs of finetune_story on the trained model."""

import json

import support
from story_support import MODEL, TOKENIZER
from support import CommandLineTest

METHODS = ["full", "qlora", "loftq", "lq-lora", "qera-exact", "best", "loqt", "lr-qat", "lrq"]
# A few seconds at most: what is tested does not depend on how much is learned.
SHORT = ["--texts", 12, "--held-out", 3, "--length", 24, "--steps", 6, "--batch", 4, "--evaluate-every", 3, "--seeds", 1]


class FinetuneTest(CommandLineTest):
    def setUp(self):
        super().setUp()
        if support.DATA_DIR is None or not (support.DATA_DIR / MODEL).exists():
            self.skipTest(f"{MODEL} not found")
        self.model = [support.DATA_DIR / MODEL, "--tokenizer", support.DATA_DIR / TOKENIZER]

    def train(self, *arguments) -> dict:
        return self.run_json(*self.model, *arguments)


def losses(report: dict) -> list:
    """Everything of a report but its times."""
    return [report["task"], json.dumps(report["runs"], sort_keys=True)]
