# SPDX-FileCopyrightText: 2026 The qlr authors
# SPDX-License-Identifier: MIT
"""Bad input of quantize_adapter: exit code 2, one line on standard error, and no file left behind."""

from adapter_support import AdapterTest, factor
from support import safetensors_bytes, tensor

OUTPUTS = ["--output", "o.safetensors", "--json", "j.json"]


class RefusalTest(AdapterTest):
    def refuse(self, options: list, *parts: str):
        self.check_refused(["a", *options, *OUTPUTS], *parts)

    def test_options(self):
        self.refuse(["--bogus"], "--bogus")
        self.refuse(["--high-bits", "9"], "high_bits is 9", "1 to 8")
        self.refuse(["--high-bits", "x"], "high-bits")
        self.refuse(["--ratio", "1.5"], "ratio is 1.5")
        self.refuse(["--ratio", "nan"], "ratio is nan")
        self.refuse(["--group-size", "-1"], "group_size is -1")
        self.refuse(["--refine", "adam"], "refine is 'adam'", "none, sgd, als")
        self.refuse(["--refine", "sgd", "--high-bits", "1"], "high_bits is 1")
        self.refuse(["--split", "x"], "split is 'x'")
        self.refuse(["--range", "x"], "range is 'x'")
        self.refuse(["--scale", "e8m0"], "scale is 'e8m0'")
        self.refuse(["--peft-type", "bf16"], "peft-type is 'bf16'")
        self.refuse(["--threads", "-1"], "threads is -1")
        self.check_refused(OUTPUTS, "INPUT")

    def test_files(self):
        self.check_refused(["nowhere", *OUTPUTS], "nowhere")
        self.write("x.safetensors", safetensors_bytes({"w": tensor(factor(3, 4, 1))}))
        self.check_refused(["x.safetensors", *OUTPUTS], "no pair", "lora_A")
        self.write("x.safetensors", safetensors_bytes({"lora_A": tensor(factor(3, 4, 1))}))
        self.check_refused(["x.safetensors", *OUTPUTS], "lora_B", "missing")
        broken = factor(3, 4, 1)
        broken[1][2] = float("nan")
        self.write("x.safetensors", safetensors_bytes({"lora_A": tensor(broken), "lora_B": tensor(factor(5, 3, 2))}))
        self.check_refused(["x.safetensors", *OUTPUTS], "R(1, 2)", "nan")
        self.write("x.safetensors", b"\x00" * 20)
        self.check_refused(["x.safetensors", *OUTPUTS], "x.safetensors")

    def test_configuration(self):
        self.configure(r=8)
        self.refuse([], "adapter_config.json", "is 8")
        self.configure(lora_alpha="12")
        self.refuse([], "lora_alpha is not a number")
        self.write("a/adapter_config.json", b"{")
        self.refuse([], "adapter_config.json", "not a JSON object")

    def test_outputs(self):
        self.check_refused(["a", "--output", "missing/o.safetensors", "--json", "j.json"], "missing/o.safetensors")
        self.check_refused(["a", "--output", "o", "--json", "o"], "two outputs")
        self.check_refused(["a", "--peft", "missing", "--output", "o"], "missing")
