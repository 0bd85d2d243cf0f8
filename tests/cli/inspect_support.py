# SPDX-FileCopyrightText: 2026 The qlr authors
# SPDX-License-Identifier: MIT
"""Small GGUF files and weights of bitsandbytes, for the tests of inspect."""

import json
import struct


def gguf_text(text: str) -> bytes:
    return struct.pack("<Q", len(text)) + text.encode()


def gguf_bytes(values: dict, tensors: dict) -> bytes:
    """`values` are texts and integers; `tensors` maps names to (number of the type, shape, bytes)."""
    out = b"GGUF" + struct.pack("<IQQ", 3, len(tensors), len(values))
    for key, value in values.items():
        out += gguf_text(key)
        out += struct.pack("<I", 8) + gguf_text(value) if isinstance(value, str) else struct.pack("<II", 4, value)
    data = b""
    for name, (kind, shape, content) in tensors.items():
        data += b"\0" * (-len(data) % 32)
        out += gguf_text(name) + struct.pack("<I", len(shape))
        out += struct.pack(f"<{len(shape)}Q", *reversed(shape)) + struct.pack("<IQ", kind, len(data))
        data += content
    return out + b"\0" * (-len(out) % 32) + data


def bitsandbytes_tensors(name: str, rows: int, cols: int, block: int = 64, nested: bool = True, **changes) -> dict:
    """An nf4 weight whose numbers are all zero."""
    blocks = -(-rows * cols // block)
    state = {"quant_type": "nf4", "blocksize": block, "dtype": "bfloat16", "shape": [rows, cols]}
    num_bytes = (rows * cols + 1) // 2
    tensors = {name: ("U8", [num_bytes, 1], b"\0" * num_bytes), f"{name}.quant_map": ("F32", [16], b"\0" * 64)}
    if nested:
        state.update(nested_blocksize=256, nested_dtype="float32", nested_offset=0.5)
        tensors[f"{name}.absmax"] = ("U8", [blocks], b"\0" * blocks)
        tensors[f"{name}.nested_absmax"] = ("F32", [-(-blocks // 256)], b"\0" * (4 * -(-blocks // 256)))
        tensors[f"{name}.nested_quant_map"] = ("F32", [256], b"\0" * 1024)
    else:
        tensors[f"{name}.absmax"] = ("F32", [blocks], b"\0" * (4 * blocks))
    state.update(changes)
    text = json.dumps({key: value for key, value in state.items() if value is not None}).encode()
    tensors[f"{name}.quant_state.bitsandbytes__nf4"] = ("U8", [len(text)], text)
    return tensors


def size_of(tensors: dict) -> int:
    return sum(len(content) for _, _, content in tensors.values())
