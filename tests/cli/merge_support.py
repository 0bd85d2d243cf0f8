# SPDX-FileCopyrightText: 2026 The qlr authors
# SPDX-License-Identifier: MIT
"""A decomposition, written and read without the library, and adapters for the tests of merge_adapter."""

import json
import pathlib
import random
import struct

from support import CommandLineTest, f32, pack, product, read_safetensors, safetensors_bytes, tensor, unpack

ROWS, COLS, RANK, STEP, GROUP = 6, 32, 2, 0.125, 16
LAYER = "base_model.model.model.layers.0."


def q_codes() -> list:
    """Codes of int4 with offset 8; the first of each group is the largest, so that scales found anew are the same."""
    source = random.Random(1)
    return [[15 if j % GROUP == 0 else source.randrange(3, 13) for j in range(COLS)] for _ in range(ROWS)]


def decomposition_bytes(codes: list, left: list, right: list, prefix: str = "", metadata: dict = None) -> bytes:
    """A decomposition of int4 in groups of 16 with steps of STEP and fp16 factors, as the library writes it."""
    values = {"qlr.format": "decomposition", "qlr.version": "1", "qlr.scale": "1", "qlr.factors": "fp16",
              "Q.format": "int4", "Q.rows": str(ROWS), "Q.cols": str(COLS), "Q.group_size": str(GROUP),
              "Q.bits": "4", "Q.order": "lsb_first", "Q.zeros": "none", "Q.scales": "fp32", "Q.scale_base": "0"}
    text = {**{prefix + key: value for key, value in values.items()}, **(metadata or {})}
    packed = [[row[j] | row[j + 1] << 4 for j in range(0, COLS, 2)] for row in codes]
    scales = [[STEP] * (ROWS * COLS // GROUP)]
    tensors = {"L": tensor(left, "F16"), "R": tensor(right, "F16"), "Q.codes": tensor(packed, "U8"),
               "Q.levels": ("F32", [16], pack([[float(code - 8) for code in range(16)]])),
               "Q.scales": ("F32", [len(scales[0])], pack(scales))}
    tensors = {prefix + name: tensors[name] for name in sorted(tensors)}
    entries, data = {"__metadata__": text}, b""
    for name, (dtype, shape, content) in tensors.items():
        entries[name] = {"dtype": dtype, "shape": shape, "data_offsets": [len(data), len(data) + len(content)]}
        data += content
    return safetensors_bytes(tensors, json.dumps(entries))


class MergeTest(CommandLineTest):
    """b.safetensors: the decomposition; the folder a: an adapter of one pair with the scale 2."""

    def setUp(self):
        super().setUp()
        source = random.Random(2)
        self.codes = q_codes()
        self.left = [[source.randrange(-8, 9) / 16 for _ in range(RANK)] for _ in range(ROWS)]
        self.right = [[source.randrange(-8, 9) / 16 for _ in range(COLS)] for _ in range(RANK)]
        self.write("b.safetensors", decomposition_bytes(self.codes, self.left, self.right))
        self.write_adapter(STEP)

    def write_adapter(self, size: float, others: dict = None):
        """A change of `size` everywhere but in the first column of each group."""
        (self.folder / "a").mkdir(exist_ok=True)
        self.added_left = [[1.0] for _ in range(ROWS)]
        self.added_right = [[0.0 if j % GROUP == 0 else f32(size / 2) for j in range(COLS)]]
        tensors = {f"{LAYER}q_proj.lora_B.weight": tensor(self.added_left),
                   f"{LAYER}q_proj.lora_A.weight": tensor(self.added_right), **(others or {})}
        self.write("a/adapter_model.safetensors", safetensors_bytes(tensors))
        self.write("a/adapter_config.json", json.dumps({"peft_type": "LORA", "r": 1, "lora_alpha": 2}).encode())

    def delta(self) -> list:
        return [[2 * x for x in row] for row in product(self.added_left, self.added_right)]

    def decoded(self, name: str) -> tuple:
        """(codes, Q, s L R) of a decomposition of 4 bits with fp32 scales."""
        metadata, tensors = read_safetensors(pathlib.Path(self.folder) / name)
        codes = [[(byte >> shift) & 15 for byte in row for shift in (0, 4)] for row in unpack(tensors["Q.codes"])]
        scales = struct.unpack(f"<{ROWS * COLS // GROUP}f", tensors["Q.scales"][2])
        q = [[(code - 8) * scales[i * (COLS // GROUP) + j // GROUP] for j, code in enumerate(row)]
             for i, row in enumerate(codes)]
        scale = float(metadata["qlr.scale"])
        correction = product(unpack(tensors["L"]), unpack(tensors["R"]))
        return codes, q, [[scale * x for x in row] for row in correction]
