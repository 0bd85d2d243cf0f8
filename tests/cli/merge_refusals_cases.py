# SPDX-FileCopyrightText: 2026 The qlr authors
# SPDX-License-Identifier: MIT
"""Bad input of merge_adapter: exit code 2, one line on standard error, and no file left behind."""

from merge_support import LAYER, STEP, MergeTest
from support import safetensors_bytes, tensor

OUTPUTS = ["--output", "o.safetensors", "--json", "j.json"]


class RefusalTest(MergeTest):
    def refuse(self, options: list, *parts: str):
        self.check_refused(["b.safetensors", "a", *options, *OUTPUTS], *parts)

    def test_options(self):
        self.refuse(["--bogus"], "--bogus")
        self.refuse(["--merge", "--concatenate"], "--concatenate and --merge")
        self.refuse(["--merge", "--factor-bits", "16"], "--factor-bits")
        self.refuse(["--factor-bits", "7"], "factor bits is 7", "32, 16, 8 and 4")
        self.refuse(["--force"], "--force", "without --merge")
        self.refuse(["--scales", "kept"], "--scales", "without --merge")
        self.refuse(["--merge", "--scales", "x"], "scales is 'x'", "kept, refitted, best")
        self.refuse(["--merge", "--largest-error", "-1"], "largest-error is -1")
        self.refuse(["--merge", "--largest-error", "nan"], "largest-error is nan")
        self.refuse(["--threads", "-1"], "threads is -1")
        self.refuse(["--weight", "w"], "weight is 'w'", "no checkpoint")
        self.check_refused(["b.safetensors", *OUTPUTS], "ADAPTER")

    def test_a_lossy_merge(self):
        self.write_adapter(0.4 * STEP)
        self.refuse(["--merge"], "keeps 0 %", "at most 0.1", "concatenate")
        self.write_adapter(1.7 * STEP)
        self.refuse(["--merge", "--largest-error", "0.01"], "at most 0.01")

    def test_files(self):
        self.check_refused(["nowhere.safetensors", "a", *OUTPUTS], "nowhere")
        self.check_refused(["b.safetensors", "nowhere", *OUTPUTS], "nowhere")
        self.check_refused(["a", "a", *OUTPUTS], "model.safetensors")
        self.check_refused(["a/adapter_model.safetensors", "a", *OUTPUTS], "qlr.format")
        self.check_refused(["b.safetensors", "b.safetensors", *OUTPUTS], "no pair", "lora_A")
        self.write("x.safetensors", b"\x00" * 20)
        self.check_refused(["x.safetensors", "a", *OUTPUTS], "x.safetensors")

    def test_adapters(self):
        self.refuse(["--module", "k_proj"], "module is 'k_proj'", "'model.layers.0.q_proj'")
        self.refuse(["--module", "_proj"], "module is '_proj'")
        pair = {"lora_B": tensor([[1.0]] * 5), "lora_A": tensor([[1.0] * 32])}
        self.write("x.safetensors", safetensors_bytes(pair))
        self.check_refused(["b.safetensors", "x.safetensors", *OUTPUTS], "adapter L is 5 x 1", "Q is 6 x 32")
        pair["lora_B"] = tensor([[1.0]] * 5 + [[float("nan")]])
        self.write("x.safetensors", safetensors_bytes(pair))
        self.check_refused(["b.safetensors", "x.safetensors", *OUTPUTS], "adapter L(5, 0) is nan")
        self.write_adapter(STEP, {f"{LAYER}v_proj.lora_B.weight": tensor([[1.0]] * 3),
                                  f"{LAYER}v_proj.lora_A.weight": tensor([[1.0] * 5])})
        self.refuse([], "module is ''", "2 of 2", "'model.layers.0.v_proj'")
        self.refuse(["--module", "v_proj"], "adapter L is 3 x 1")

    def test_outputs(self):
        self.check_refused(["b.safetensors", "a", "--output", "missing/o", "--json", "j.json"], "missing/o")
        self.check_refused(["b.safetensors", "a", "--output", "o", "--json", "o"], "two outputs")
