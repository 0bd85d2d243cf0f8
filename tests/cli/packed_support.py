# SPDX-FileCopyrightText: 2026 The qlr authors
# SPDX-License-Identifier: MIT
"""The library's layout of compressed weights, written in plain Python from its documentation alone."""

import json
import struct

from support import f32, product


def safetensors_file(tensors: dict, metadata: dict) -> bytes:
    """As support.safetensors_bytes, with metadata."""
    entries, data = {"__metadata__": metadata}, b""
    for name, (dtype, shape, content) in tensors.items():
        entries[name] = {"dtype": dtype, "shape": shape, "data_offsets": [len(data), len(data) + len(content)]}
        data += content
    text = json.dumps(entries).encode()
    text += b" " * (-len(text) % 8)
    return struct.pack("<Q", len(text)) + text + data


def floats(values: list) -> bytes:
    return struct.pack(f"<{len(values)}f", *values)


class PackedWeight:
    """W = Q + s L R with Q in codes of 4 or 8 bits, one scale in a row; every product below is exact in float32."""

    STEP = 1 / 32

    def __init__(self, weight: list, bits: int = 8, left: list = None, right: list = None, scale: float = 0.5):
        self.bits, self.scale = bits, scale
        self.rows, self.cols = len(weight), len(weight[0])
        self.left, self.right = left or [[] for _ in weight], right or []
        half = 1 << (bits - 1)
        self.codes = [[max(0, min(2 * half - 1, round(v / self.STEP) + half)) for v in row] for row in weight]

    def dense(self) -> list:
        half = 1 << (self.bits - 1)
        change = product(self.left, self.right) if self.right else [[0.0] * self.cols for _ in range(self.rows)]
        return [[f32((c - half) * self.STEP + self.scale * d) for c, d in zip(p, q)]
                for p, q in zip(self.codes, change)]

    def tensors(self, prefix: str) -> dict:
        half = 1 << (self.bits - 1)
        rows = [row + [0] * (len(row) % 2) for row in self.codes]
        if self.bits == 4:  # the first of two in the low half
            rows = [[a | b << 4 for a, b in zip(row[::2], row[1::2])] for row in rows]
        else:
            rows = self.codes
        return {f"{prefix}Q.codes": ("U8", [self.rows, len(rows[0])], b"".join(map(bytes, rows))),
                f"{prefix}Q.levels": ("F32", [2 * half], floats([float(i - half) for i in range(2 * half)])),
                f"{prefix}Q.scales": ("F32", [self.rows], floats([self.STEP] * self.rows)),
                f"{prefix}L": ("F32", [self.rows, len(self.right)], floats([v for row in self.left for v in row])),
                f"{prefix}R": ("F32", [len(self.right), self.cols], floats([v for row in self.right for v in row]))}

    def metadata(self, prefix: str) -> dict:
        values = {"qlr.format": "decomposition", "qlr.version": "1", "qlr.scale": str(self.scale),
                  "qlr.factors": "fp32", "Q.format": "python", "Q.rows": str(self.rows), "Q.cols": str(self.cols),
                  "Q.group_size": "0", "Q.bits": str(self.bits), "Q.order": "lsb_first", "Q.zeros": "none",
                  "Q.scales": "fp32", "Q.scale_base": "0"}
        return {prefix + key: value for key, value in values.items()}

    def num_bytes(self) -> int:
        """Of codes, scales and factors."""
        rank = len(self.right)
        return self.rows * -(-self.cols * self.bits // 8) + 4 * self.rows + 4 * rank * (self.rows + self.cols)


def checkpoint_file(dense: dict, packed: dict, metadata: dict = None) -> bytes:
    """`dense` maps names to tensors, `packed` to PackedWeight."""
    tensors, entries = dict(dense), {**(metadata or {}), "qlr.format": "checkpoint", "qlr.version": "1"}
    for name, weight in packed.items():
        tensors.update(weight.tensors(name + "."))
        entries.update(weight.metadata(name + "."))
    return safetensors_file(tensors, entries)


def index_bytes(files: dict) -> bytes:
    """`files` maps names of files to names of tensors."""
    return json.dumps({"metadata": {"total_size": 0},
                       "weight_map": {name: file for file, names in files.items() for name in names}}).encode()
