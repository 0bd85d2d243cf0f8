# SPDX-FileCopyrightText: 2026 The qlr authors
# SPDX-License-Identifier: MIT
"""What finetune_story refuses, before any work is done."""

from story_support import TinyModel, tokenizer_bytes
from support import CommandLineTest


class RefusalsTest(CommandLineTest):
    def setUp(self):
        super().setUp()
        self.write("m.safetensors", TinyModel(tied=True).file())
        self.write("t.bin", tokenizer_bytes())
        self.model = ["m.safetensors", "--tokenizer", "t.bin"]

    def refuse(self, arguments, *parts):
        self.check_refused([*self.model, *arguments], *parts)

    def test_values_that_are_not_allowed(self):
        for option, value, allowed in (("--steps", 0, "1 to"), ("--seeds", 0, "1 to"), ("--batch", 0, "1 to"),
                                       ("--evaluate-every", 0, "1 to"), ("--save-every", 0, "1 to"),
                                       ("--rank", -1, "0 to"), ("--group-size", -1, "0 to"), ("--held-out", 0, "1 to"),
                                       ("--bits", 5, "2 to 4"), ("--bits", 1, "2 to 4"), ("--threads", -1, "0"),
                                       ("--learning-rate-factor", -1, "0 and finite"),
                                       ("--learning-rate-factor", "inf", "0 and finite")):
            self.refuse([option, value], option[2:], str(value), allowed)
        self.refuse(["--texts", 4, "--batch", 8], "texts is 4", "8 to")

    def test_names_that_are_not_allowed(self):
        self.refuse(["--methods", "full,magic"], "method is 'magic'", "qlora", "lr-qat")
        self.refuse(["--methods", "full,full"], "'full' is given twice")
        self.refuse(["--bits", "2,3,2"], "twice")
        self.refuse(["--task", "other"], "task is 'other'", "shifted", "plain")
        self.refuse(["--storage", "fp8"], "storage is 'fp8'", "fp32", "bf16")
        self.refuse(["--magic"], "--magic")
        self.refuse(["--from-scratch", "--task", "shifted"], "task is 'shifted'", "--from-scratch")

    def test_files_that_are_not_there(self):
        self.check_refused(["none.safetensors", "--tokenizer", "t.bin"], "none.safetensors")
        self.check_refused(["m.safetensors", "--tokenizer", "none.bin"], "none.bin")
        self.refuse(["--json", "no/such/folder.json"], "no/such/folder.json")

    def test_a_model_that_never_says_the_name(self):
        self.refuse(["--length", 8, "--texts", 8], "Lily")
