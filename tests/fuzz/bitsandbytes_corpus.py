# SPDX-FileCopyrightText: 2026 The qlr authors
# SPDX-License-Identifier: MIT
"""Seed files of the fuzzer of bitsandbytes weights; written by make_corpus.py."""

import json
import struct

NF4 = (-1.0, -0.6961928009986877, -0.5250730514526367, -0.39491748809814453, -0.28444138169288635,
       -0.18477343022823334, -0.09105003625154495, 0.0, 0.07958029955625534, 0.16093020141124725,
       0.24611230194568634, 0.33791524171829224, 0.44070982933044434, 0.5626170039176941, 0.7229568362236023, 1.0)
FP4 = tuple(sign * x / 12 for sign in (1, -1) for x in (0, 0.0625, 8, 12, 4, 6, 2, 3))


def floats(*values):
    return ("F32", [len(values)], struct.pack(f"<{len(values)}f", *values))


def safetensors(tensors):
    header, data = {}, b""
    for name, (dtype, shape, content) in tensors.items():
        header[name] = {"dtype": dtype, "shape": shape, "data_offsets": [len(data), len(data) + len(content)]}
        data += content
    text = json.dumps(header, separators=(",", ":")).encode()
    return struct.pack("<Q", len(text)) + text + data


def four_bits(rows=2, cols=5, block=64, kind="nf4", nested=False, state=None, text=None, drop=(), replace=None):
    """A weight `w`; `state` changes members, `text` replaces the whole state, `replace` and `drop` tensors."""
    size, blocks = (rows * cols + 1) // 2, -(-rows * cols // block)
    members = {"quant_type": kind, "blocksize": block, "dtype": "bfloat16", "shape": [rows, cols]}
    tensors = {"": ("U8", [size, 1], bytes(i * 37 % 256 for i in range(size))),
               ".quant_map": floats(*(NF4 if kind == "nf4" else FP4)), ".absmax": floats(*[0.5] * blocks)}
    if nested:
        members.update(nested_blocksize=256, nested_dtype="float32", nested_offset=0.0625)
        tensors[".absmax"] = ("U8", [blocks], bytes(range(blocks)))
        tensors[".nested_absmax"] = floats(0.5)
        tensors[".nested_quant_map"] = floats(*(i / 128 - 1 for i in range(256)))
    members.update(state or {})
    content = json.dumps({k: v for k, v in members.items() if v is not None}) if text is None else text
    tensors[f".quant_state.bitsandbytes__{kind}"] = ("U8", [len(content)], content.encode())
    tensors.update(replace or {})
    return safetensors({"w" + name: entry for name, entry in tensors.items() if name not in drop})


def eight_bits(weight=("I8", [2, 3], bytes(range(6))), scales=floats(0.5, 0.25), number=0):
    tensors = {"m.weight": weight, "m.SCB": scales, "m.weight_format": ("U8", [], bytes([number]))}
    return safetensors({name: entry for name, entry in tensors.items() if entry is not None})


def bitsandbytes_files():
    yield "ok_nf4", four_bits()
    yield "ok_fp4", four_bits(kind="fp4")
    yield "ok_nested", four_bits(nested=True)
    yield "ok_blocks_across_rows", four_bits(3, 33)
    yield "ok_whole_blocks", four_bits(2, 64, 32)
    yield "ok_odd", four_bits(3, 5)
    yield "ok_1x1", four_bits(1, 1)
    yield "ok_bf16_storage", four_bits(2, 4, replace={"": ("BF16", [2, 1], bytes(4))})
    yield "ok_f16_scales", four_bits(replace={".absmax": ("F16", [1], struct.pack("<e", 0.5))})
    yield "ok_int8", eight_bits()
    yield "unsupported_three_dimensions", four_bits(state={"shape": [1, 2, 5]})
    yield "unsupported_other_table", four_bits(replace={".quant_map": floats(*FP4)})
    yield "unsupported_nested_dtype", four_bits(nested=True, state={"nested_dtype": "float16"})
    yield "unsupported_int8_turing", eight_bits(number=2)

    yield "no_bytes", b""
    yield "state_empty", four_bits(text="")
    yield "state_cut", four_bits(text='{"quant_type":"nf4')
    yield "state_array", four_bits(text="[]")
    yield "state_deep", four_bits(text='{"a":' + "[" * 500 + "]" * 500 + "}")
    yield "state_not_utf8", four_bits(replace={".quant_state.bitsandbytes__nf4": ("U8", [2], b"\xff{")})
    yield "state_of_floats", four_bits(replace={".quant_state.bitsandbytes__nf4": floats(1)})
    yield "state_twice", four_bits(replace={".quant_state.bitsandbytes__fp4": ("U8", [2], b"{}")})
    yield "quant_type_other", four_bits(state={"quant_type": "fp4"})
    yield "blocksize_0", four_bits(state={"blocksize": 0})
    yield "blocksize_65", four_bits(state={"blocksize": 65})
    yield "blocksize_text", four_bits(state={"blocksize": "64"})
    yield "blocksize_wraps", four_bits(state={"blocksize": 2**64 + 64})
    yield "dtype_missing", four_bits(state={"dtype": None})
    yield "shape_overflows", four_bits(state={"shape": [2**32, 2**32]})
    yield "shape_huge", four_bits(state={"shape": [1, 2**60]})
    yield "shape_negative", four_bits(state={"shape": [-2, -5]})
    yield "shape_zero", four_bits(state={"shape": [0, 5]})
    yield "shape_fraction", four_bits(state={"shape": [2.5, 4]})
    yield "offset_missing", four_bits(nested=True, state={"nested_offset": None})
    yield "offset_huge", four_bits(nested=True, state={"nested_offset": 1e300})
    yield "offset_text", four_bits(nested=True, state={"nested_offset": "0"})
    yield "nested_block_0", four_bits(nested=True, state={"nested_blocksize": 0})
    yield "nested_map_short", four_bits(nested=True, replace={".nested_quant_map": floats(*[0.5] * 16)})
    yield "nested_scales_overflow", four_bits(nested=True, replace={
        ".nested_quant_map": floats(*[1e30] * 256), ".nested_absmax": floats(1e30)})
    yield "codes_missing", four_bits(drop=[""])
    yield "codes_cut", four_bits(replace={"": ("U8", [4, 1], bytes(4))})
    yield "absmax_missing", four_bits(drop=[".absmax"])
    yield "absmax_short", four_bits(3, 33, replace={".absmax": floats(0.5)})
    yield "absmax_nan", four_bits(replace={".absmax": floats(float("nan"))})
    yield "absmax_of_bytes", four_bits(replace={".absmax": ("U8", [1], b"\1")})
    yield "map_infinite", four_bits(replace={".quant_map": floats(*NF4[:15], float("inf"))})
    yield "int8_scales_short", eight_bits(scales=floats(1))
    yield "int8_scales_nan", eight_bits(scales=floats(1, float("nan")))
    yield "int8_scales_huge", eight_bits(scales=floats(1, 3e38))
    yield "int8_flat", eight_bits(weight=("I8", [6], bytes(6)))
    yield "int8_empty", eight_bits(weight=("I8", [2, 0], b""))
