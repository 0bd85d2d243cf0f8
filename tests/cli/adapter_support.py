# SPDX-FileCopyrightText: 2026 The qlr authors
# SPDX-License-Identifier: MIT
"""Adapters of PEFT for the tests of quantize_adapter."""

import json
import random

from support import CommandLineTest, f32, safetensors_bytes, tensor

LAYER = "base_model.model.model.layers.0."


def factor(rows: int, cols: int, seed: int, decay_rows: bool = False) -> list:
    source = random.Random(seed)
    return [[f32(source.gauss(0, 0.1) * (0.6 ** i if decay_rows else 1)) for _ in range(cols)] for i in range(rows)]


class AdapterTest(CommandLineTest):
    """Runs quantize_adapter on the folder `a`, an adapter of two pairs."""

    def setUp(self):
        super().setUp()
        self.factors = {"q_proj": (factor(40, 6, 1), factor(6, 50, 2, True)),
                        "v_proj": (factor(20, 4, 3), factor(4, 50, 4, True))}
        (self.folder / "a").mkdir()
        tensors = {}
        for name, (left, right) in self.factors.items():
            tensors[f"{LAYER}{name}.lora_B.weight"] = tensor(left)
            tensors[f"{LAYER}{name}.lora_A.weight"] = tensor(right)
        tensors["base_model.model.lm_head.weight"] = tensor([[1.0, 2.0]])
        self.write("a/adapter_model.safetensors", safetensors_bytes(tensors))
        self.configure()

    def configure(self, **changes):
        config = {"peft_type": "LORA", "r": 6, "lora_alpha": 12, "rank_pattern": {"v_proj": 4}, **changes}
        self.write("a/adapter_config.json", json.dumps(config).encode())
