# SPDX-FileCopyrightText: 2026 The qlr authors
# SPDX-License-Identifier: MIT
"""Bad input to allocate_bits: exit code 2, one line on standard error, and no file left behind."""

import json

from support import CommandLineTest, random_matrix, safetensors_bytes, tensor

OUTPUTS = ["--output", "p.json", "--json", "j.json"]


class RefusalTest(CommandLineTest):
    def setUp(self):
        super().setUp()
        self.write("m.safetensors", safetensors_bytes({"a": tensor(random_matrix(24, 64)),
                                                       "narrow": tensor(random_matrix(24, 8)),
                                                       "norm": tensor([[1.0] * 64], shape=[64])}))

    def refuse(self, options: list, *parts: str):
        self.check_refused(["m.safetensors", "--tensors", "a", "--budget", "3", *OUTPUTS, *options], *parts)

    def test_options(self):
        self.refuse(["--bogus"], "--bogus")
        self.refuse(["--grid", "large"], "grid is 'large'", "lq-lora, small")
        self.refuse(["--cost", "x"], "cost is 'x'", "absolute, relative")
        self.refuse(["--svd", "x"], "svd is 'x'", "exact, randomized")
        self.refuse(["--method", "x"], "method is 'x'", "best")
        self.refuse(["--factor-bits", "7"], "factor bits is 7")
        self.refuse(["--threads", "-1"], "threads is -1")
        self.refuse(["--gap", "-1"], "gap is -1")
        self.refuse(["--gap", "nan"], "gap is nan")
        self.refuse(["--ranks", "0,-1"], "rank is -1")
        self.refuse(["--ranks", "x"], "--ranks", "x")
        self.refuse(["--ranks", "25"], "tensor 'a' is 24 x 64", "no choice suits")
        self.refuse(["--output", "no/p.json"], "--output")
        self.check_refused(["--budget", "3"], "INPUT")
        self.check_refused(["m.safetensors"], "--budget")

    def test_budgets(self):
        for budget, part in (("0", "budget is 0"), ("-1", "budget is -1"), ("65", "budget is 65"), ("nan", "budget is nan"),
                             ("x", "--budget"), ("2.03", "budget is 2.03 bits per weight, the smallest possible is 2.")):
            self.check_refused(["m.safetensors", "--tensors", "a", "--budget", budget, *OUTPUTS], part)

    def test_tensors(self):
        base = ["m.safetensors", "--budget", "3", *OUTPUTS]
        self.check_refused(base, "tensor 'narrow' is 24 x 8", "--exclude")
        self.check_refused([*base, "--tensors", "norm"], "tensors is 'norm'", "2-D")
        self.check_refused([*base, "--tensors", "a", "--exclude", "nope*"], "exclude is 'nope*'")
        self.check_refused([*base, "--exclude", "*"], "no 2-D tensor")

    def test_files(self):
        self.check_refused(["none.safetensors", "--budget", "3", *OUTPUTS], "none.safetensors")
        self.write("bad.safetensors", b"\x08\0\0\0\0\0\0\0{}")
        self.check_refused(["bad.safetensors", "--budget", "3", *OUTPUTS], "bad.safetensors")
        values = random_matrix(4, 64)
        values[2][5] = float("nan")
        self.write("nan.safetensors", safetensors_bytes({"w": tensor(values)}))
        self.check_refused(["nan.safetensors", "--budget", "3", *OUTPUTS], "tensor 'w'", "weight(2, 5) is nan")
        self.check_refused(["m.safetensors", "--tensors", "a", "--budget", "3", "--output", "no/p.json"], "cannot write")
        self.check_refused(["m.safetensors", "--tensors", "a", "--budget", "3", "--output", "x", "--json", "x"], "two outputs")

    def test_weights_and_fisher(self):
        for text, part in (("[", "not a JSON object"), ("[1]", "not a JSON object"), ('{"a": -1}', "weight of 'a'"),
                           ('{"a": "x"}', "weight of 'a'"), ('{"a": 0}', "weight of 'a'"), ('{"b": 1}', "has no weight")):
            self.write("w.json", text.encode())
            self.refuse(["--weights", "w.json"], part)
        self.refuse(["--weights", "none.json"], "none.json")
        self.write("f.safetensors", safetensors_bytes({"b": tensor(random_matrix(24, 64))}))
        self.refuse(["--fisher", "f.safetensors"], "tensor 'a'", "f.safetensors")
        self.write("f.safetensors", safetensors_bytes({"a": tensor([[1.0] * 63 for _ in range(24)])}))
        self.refuse(["--fisher", "f.safetensors"], "fisher is 24 x 63")
        self.assertEqual(json.loads(self.run_ok("m.safetensors", "--tensors", "a", "--budget", "3", "--json", "-"))["bytes"] > 0, True)
