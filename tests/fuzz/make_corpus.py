#!/usr/bin/env python3
# SPDX-FileCopyrightText: 2026 The qlr authors
# SPDX-License-Identifier: MIT
"""Writes the seed files of the fuzzers: corpus/FORMAT/*.

Files named ok_* are valid; unsupported_* are valid but not readable as a matrix; non_finite_* hold NaN or
infinity; all others are malformed and named after what is wrong.
"""

import json
import pathlib
import struct

from bitsandbytes_corpus import bitsandbytes_files
from gguf_corpus import gguf_files, imatrix_files

CORPUS = pathlib.Path(__file__).resolve().parent / "corpus"


def safetensors(text, data=b"", length=None):
    header = text if isinstance(text, bytes) else text.encode()
    return struct.pack("<Q", len(header) if length is None else length) + header + data


def tensor(name="t", dtype='"F32"', shape="[2,3]", offsets="[0,24]"):
    return f'"{name}":{{"dtype":{dtype},"shape":{shape},"data_offsets":{offsets}}}'


def one(data_bytes=24, **fields):
    return safetensors("{" + tensor(**fields) + "}", bytes(range(data_bytes)))


def two(first, second, data_bytes):
    text = "{" + tensor("a", '"U8"', "[4]", first) + "," + tensor("b", '"U8"', "[4]", second) + "}"
    return safetensors(text, bytes(data_bytes))


def safetensors_files():
    yield "ok_empty", safetensors("{}")
    yield "ok_padded", safetensors("{}      ")
    yield "ok_f32", one()
    yield "ok_f64", one(dtype='"F64"', shape="[3]")
    yield "ok_f16", one(dtype='"F16"', shape="[3,4]")
    yield "ok_bf16", one(dtype='"BF16"', shape="[12,1]")
    yield "ok_i8", one(dtype='"I8"', shape="[4,6]")
    yield "ok_u8", one(dtype='"U8"', shape="[24]")
    yield "ok_scalar", one(4, shape="[]", offsets="[0,4]")
    yield "ok_empty_tensor", one(0, shape="[0,5]", offsets="[0,0]")
    yield "ok_four_dimensions", one(shape="[1,2,3,1]")
    yield "ok_two_tensors", two("[4,8]", "[0,4]", 8)
    yield "ok_metadata", safetensors('{"__metadata__":{"format":"pt"},' + tensor() + "}", bytes(24))
    yield "ok_unknown_field", safetensors(
        '{"t":{"x":[{"shape":-1}],"dtype":"U8","shape":[1],"data_offsets":[0,1]}}', b"\1")
    yield "ok_escaped_name", one(name="\\u00e9\\n\\ud83d\\ude00")
    yield "unsupported_dtype_i32", one(dtype='"I32"')
    yield "unsupported_dtype_unknown", one(dtype='"F4"', shape="[6,8]")

    yield "no_bytes", b""
    yield "prefix_cut", b"\2\0\0\0"
    yield "length_beyond_file", safetensors("{}", length=3)
    yield "length_beyond_cap", safetensors("{}", length=100_000_001)
    yield "length_wraps", safetensors("{}", length=2**64 - 1)
    yield "length_zero", safetensors("")
    yield "header_array", safetensors("[]")
    yield "header_cut", safetensors('{"t":{"dtype":"F32","sha')
    yield "header_zero_byte", safetensors(b"{}\0\0\0\0\0\0")
    yield "header_two_objects", safetensors("{}{}")
    yield "header_not_utf8", safetensors(b'{"\xff\xfe":{}}')
    yield "header_lone_surrogate", safetensors('{"\\ud800":{}}')
    yield "header_deep_arrays", safetensors('{"t":{"x":' + "[" * 900)
    yield "header_deep_objects", safetensors('{"t":{"x":' + '{"a":' * 150)
    yield "header_entry_number", safetensors('{"t":5}')
    yield "metadata_number", safetensors('{"__metadata__":{"k":1}}')
    yield "metadata_array", safetensors('{"__metadata__":[]}')
    yield "metadata_twice", safetensors('{"__metadata__":{},"__metadata__":{}}')
    yield "metadata_key_twice", safetensors('{"__metadata__":{"k":"a","k":"b"}}')
    yield "dtype_missing", safetensors('{"t":{"shape":[0],"data_offsets":[0,0]}}')
    yield "dtype_number", one(dtype="5")
    yield "dtype_twice", safetensors('{"t":{"dtype":"U8","dtype":"U8","shape":[0],"data_offsets":[0,0]}}')
    yield "shape_missing", safetensors('{"t":{"dtype":"F32","data_offsets":[0,0]}}')
    yield "shape_negative", one(shape="[-2,-3]")
    yield "shape_fraction", one(shape="[2.0,3.0]")
    yield "shape_beyond_64_bits", one(shape="[18446744073709551616]")
    yield "shape_overflows", one(shape="[4294967296,4294967296,4]")
    yield "shape_overflows_to_span", one(shape="[4611686018427387910]")
    yield "shape_overflows_behind_zero", one(0, shape="[0,4294967296,4294967296]", offsets="[0,0]")
    yield "shape_string", one(shape='"2,3"')
    yield "shape_17_dimensions", one(4, shape="[" + ",".join("1" * 17) + "]", offsets="[0,4]")
    yield "offsets_missing", safetensors('{"t":{"dtype":"F32","shape":[0]}}')
    yield "offsets_one", one(offsets="[0]")
    yield "offsets_three", one(offsets="[0,24,24]")
    yield "offsets_negative", one(offsets="[-24,0]")
    yield "offsets_reversed", one(offsets="[24,0]")
    yield "offsets_beyond_file", one(23)
    yield "offsets_huge", one(offsets="[0,9223372036854775807]")
    yield "span_too_small", one(shape="[2,4]")
    yield "span_too_large", one(shape="[2,2]")
    yield "span_of_scalar", one(shape="[]")
    yield "tensor_twice", safetensors("{" + tensor() + "," + tensor() + "}", bytes(24))
    yield "tensors_overlap", two("[0,4]", "[2,6]", 6)
    yield "tensors_identical", two("[0,4]", "[0,4]", 4)
    yield "hole_at_start", one(25, offsets="[1,25]")
    yield "hole_between", two("[0,4]", "[5,9]", 9)
    yield "hole_at_end", one(25)
    yield "data_without_tensors", safetensors("{}", b"\0")


def npy(dictionary, data=b"", version=(1, 0), length=None):
    text = dictionary.encode("latin1")
    size = len(text) if length is None else length
    return b"\x93NUMPY" + bytes(version) + struct.pack("<H" if version[0] == 1 else "<I", size) + text + data


def array(descr="'<f4'", order="False", shape="(2, 3)", data_bytes=24, **options):
    text = f"{{'descr': {descr}, 'fortran_order': {order}, 'shape': {shape}, }}"
    prefix = 10 if options.get("version", (1, 0))[0] == 1 else 12
    text += " " * (-(prefix + len(text) + 1) % 64) + "\n"
    return npy(text, bytes(range(data_bytes)), **options)


def npy_files():
    yield "ok_f4", array()
    yield "ok_f4_fortran", array(order="True")
    yield "ok_f4_version_2", array(version=(2, 0))
    yield "ok_f4_version_3", array(version=(3, 0))
    yield "ok_f8", array(descr="'<f8'", shape="(3, 1)")
    yield "ok_f2", array(descr="'<f2'", shape="(3, 4)")
    yield "ok_i1", array(descr="'|i1'", shape="(24,)")
    yield "ok_u1", array(descr="'|u1'", shape="(4, 6)", order="True")
    yield "ok_i2", array(descr="'<i2'", shape="(12,)")
    yield "ok_i4", array(descr="'<i4'")
    yield "ok_i8", array(descr="'<i8'", shape="(1, 3)")
    yield "ok_empty", array(shape="(0, 5)", data_bytes=0)
    yield "ok_many_empty_rows", array(shape="(1152921504606846976, 0)", order="True", data_bytes=0)
    yield "ok_double_quotes", npy('{"shape":(1,1),"fortran_order":False,"descr":"<f4"}', bytes(4))
    yield "unsupported_big_endian", array(descr="'>f4'")
    yield "unsupported_object", array(descr="'|O'", shape="(3,)")
    yield "unsupported_structured", array(descr="[('a', '<f4'), ('b', '<i4')]", shape="(3,)")
    yield "unsupported_nested_tuple", array(descr="('<f4', (2,))", shape="(3,)")
    yield "unsupported_complex", array(descr="'<c8'", shape="(3,)")
    yield "unsupported_scalar", array(shape="()", data_bytes=4)
    yield "unsupported_three_dimensions", array(shape="(1, 2, 3)")
    yield "unsupported_version_4", array(version=(4, 0))
    yield "unsupported_version_1_1", array(version=(1, 1))

    yield "no_bytes", b""
    yield "magic_cut", b"\x93NUM"
    yield "magic_wrong", b"\x94NUMPY" + array()[6:]
    yield "version_cut", b"\x93NUMPY\1"
    yield "length_cut", b"\x93NUMPY\1\0\x10"
    yield "length_beyond_file", npy("{}", length=3)
    yield "length_beyond_file_version_2", npy("{}", version=(2, 0), length=2**32 - 1)
    yield "header_empty", npy("")
    yield "header_no_dictionary", npy("[1, 2]")
    yield "header_cut", npy("{'descr': '<f4', 'fortran_o")
    fields = "'descr': '<f4', 'fortran_order': False, 'shape': (1,), "
    yield "header_zero_byte", npy("{" + fields + "}\0", bytes(4))
    yield "header_trailing_text", npy("{" + fields + "} x", bytes(4))
    yield "header_unknown_key", npy("{" + fields + "'x': 1}", bytes(4))
    yield "descr_missing", npy("{'fortran_order': False, 'shape': (1,)}", bytes(4))
    yield "descr_twice", npy("{'descr': '<f4', " + fields + "}", bytes(4))
    yield "descr_number", array(descr="4")
    yield "order_missing", npy("{'descr': '<f4', 'shape': (1,)}", bytes(4))
    yield "order_number", array(order="0")
    yield "shape_missing", npy("{'descr': '<f4', 'fortran_order': False}", bytes(4))
    yield "shape_number", array(shape="6")
    yield "shape_no_tuple", array(shape="(6)")
    yield "shape_list", array(shape="[2, 3]")
    yield "shape_negative", array(shape="(-2, -3)")
    yield "shape_fraction", array(shape="(2.0, 3.0)")
    yield "shape_beyond_64_bits", array(shape="(9223372036854775808,)")
    yield "shape_overflows", array(shape="(4294967296, 4294967296)")
    yield "shape_overflows_to_size", array(shape="(4611686018427387910,)")
    yield "shape_overflows_behind_zero", array(shape="(0, 9223372036854775807)", data_bytes=0)
    yield "data_missing", array(data_bytes=0)
    yield "data_cut", array(data_bytes=23)
    yield "data_too_long", array(data_bytes=25)


def quantized(prefix, rows, cols, bits=4, group=2, scales="fp16", zeros="none", order="lsb_first"):
    """Metadata and tensors of one quantized matrix, by the layout in qlr/io/serialize.hpp."""
    row_bytes, count = (cols * bits + 7) // 8, rows * -(-cols // group)
    one_scale = {"fp32": ("F32", struct.pack("<f", 0.5)), "bf16": ("BF16", b"\0\x3f"), "e8m0": ("U8", b"\x7e"),
                 "e4m3-tensor": ("F8_E4M3", b"\x30")}.get(scales, ("F16", struct.pack("<e", 0.5)))
    metadata = {"format": "by hand", "rows": rows, "cols": cols, "group_size": group, "bits": bits, "order": order,
                "zeros": zeros, "scales": scales, "scale_base": "1"}
    tensors = {"codes": ("U8", [rows, row_bytes], bytes(i * 37 % 256 for i in range(rows * row_bytes))),
               "levels": ("F32", [2**bits], struct.pack(f"<{2**bits}f", *range(2**bits)))}
    if scales == "dq-bnb":
        tensors["scales"] = ("U8", [count], bytes(count))
        tensors["supers"] = ("F32", [1], struct.pack("<f", 0.5))
    elif scales.startswith("dq:"):
        scale_bits, _, block = scales[3:].split(",")
        size, supers = (count * int(scale_bits) + 7) // 8, -(-count // int(block))
        tensors["scales"] = ("U8", [size], bytes(range(size)))
        tensors["supers"] = ("F16", [supers], struct.pack(f"<{supers}e", *[0.5] * supers))
    else:
        tensors["scales"] = (one_scale[0], [count], one_scale[1] * count)
    if zeros == "integer":
        size = (count * bits + 7) // 8
        tensors["zeros"] = ("U8", [size], bytes(size))
    elif zeros == "real":
        tensors["zeros"] = ("F32", [count], struct.pack(f"<{count}f", *[1.5] * count))
    return ({f"{prefix}.{key}": str(value) for key, value in metadata.items()},
            {f"{prefix}.{name}": entry for name, entry in tensors.items()})


def decomposition(rows=2, cols=3, rank=1, factors="fp16", changes=None, drop=(), replace=None, **options):
    """A small decomposition file; `changes` to the metadata, `replace` and `drop` for tensors and entries."""
    metadata = {"qlr.format": "decomposition", "qlr.version": "1", "qlr.scale": "0.5", "qlr.factors": factors}
    parts = [quantized("Q", rows, cols, **options)]
    tensors = {}
    if factors.startswith("int"):
        bits = int(factors[3:])
        parts += [quantized("L", rank, rows, bits, 64), quantized("R", rank, cols, bits, 64)]
    else:
        dtype, code = {"fp16": ("F16", "e"), "fp32": ("F32", "f")}[factors]
        for name, shape in (("L", [rows, rank]), ("R", [rank, cols])):
            count = shape[0] * shape[1]
            tensors[name] = (dtype, shape, struct.pack(f"<{count}{code}", *[0.25] * count))
    for more_metadata, more_tensors in parts:
        metadata.update(more_metadata)
        tensors.update(more_tensors)
    metadata.update(changes or {})
    tensors.update(replace or {})
    header, data = {"__metadata__": {k: v for k, v in metadata.items() if k not in drop}}, b""
    for name, (dtype, shape, content) in tensors.items():
        if name not in drop:
            header[name] = {"dtype": dtype, "shape": shape, "data_offsets": [len(data), len(data) + len(content)]}
            data += content
    return safetensors(json.dumps(header, separators=(",", ":")), data)


def decomposition_files():
    yield "ok_fp16", decomposition()
    yield "ok_fp32", decomposition(factors="fp32", scales="fp32", cols=7)
    yield "ok_int4", decomposition(factors="int4", scales="bf16")
    yield "ok_rank_0", decomposition(rank=0)
    yield "ok_rank_0_int4", decomposition(rank=0, factors="int4")
    yield "ok_1x1", decomposition(1, 1)
    yield "ok_one_bit", decomposition(bits=1, cols=9, zeros="real")
    yield "ok_three_bits", decomposition(bits=3, cols=9, zeros="integer", order="msb_first")
    yield "ok_split_half", decomposition(order="split_half", scales="e8m0")
    yield "ok_tensor_scaled", decomposition(scales="e4m3-tensor")
    yield "ok_dq", decomposition(scales="dq:3,fp16,2", cols=9)
    yield "ok_dq_bnb", decomposition(scales="dq-bnb")
    yield "unsupported_version_2", decomposition(changes={"qlr.version": "2"})

    yield "no_bytes", b""
    yield "no_metadata", safetensors("{}")
    yield "file_cut", decomposition()[:-1]
    yield "scale_nan", decomposition(changes={"qlr.scale": "nan"})
    yield "version_missing", decomposition(drop=["qlr.version"])
    yield "levels_missing", decomposition(drop=["Q.levels"])
    yield "codes_missing", decomposition(drop=["Q.codes"])
    yield "right_missing", decomposition(drop=["R"])
    yield "rows_huge", decomposition(changes={"Q.rows": str(2**63 - 1)})
    yield "cols_huge", decomposition(changes={"Q.cols": str(2**63 - 1)})
    yield "rows_huge_without_cols", decomposition(changes={"Q.rows": str(2**60), "Q.cols": "0"}, drop=["L", "R"], replace={
        "Q.codes": ("U8", [2**60, 0], b""), "Q.scales": ("F16", [0], b"")})
    yield "rank_huge_of_nothing", decomposition(0, 0, 0, "int4", changes={"L.rows": str(2**60), "R.rows": str(2**60)}, replace={
        "L.codes": ("U8", [2**60, 0], b""), "R.codes": ("U8", [2**60, 0], b"")})
    yield "group_too_small", decomposition(changes={"Q.group_size": "1"})
    yield "bits_wrong", decomposition(changes={"Q.bits": "2"})
    yield "order_unknown", decomposition(changes={"Q.order": "x"})
    yield "split_half_of_3_bits", decomposition(bits=3, order="split_half")
    yield "scales_unknown", decomposition(changes={"Q.scales": "fp8"})
    yield "scales_of_another_type", decomposition(changes={"Q.scales": "bf16"})
    yield "scales_block_0", decomposition(scales="dq:3,fp16,2", changes={"Q.scales": "dq:3,fp16,0"})
    yield "scales_nan", decomposition(replace={"Q.scales": ("F16", [4], b"\0\x7e" * 4)})
    yield "levels_nan", decomposition(replace={"Q.levels": ("F32", [16], b"\xff" * 64)})
    yield "left_infinite", decomposition(replace={"L": ("F16", [2, 1], b"\0\x7c" * 2)})
    yield "left_of_three_dimensions", decomposition(replace={"L": ("F16", [1, 2, 1], bytes(4))})
    yield "left_too_wide", decomposition(replace={"L": ("F16", [2, 2], bytes(8))})
    yield "factors_of_another_type", decomposition(changes={"qlr.factors": "fp32"})
    yield "factors_of_1_bit", decomposition(factors="int4", changes={"qlr.factors": "int8"})


def main():
    for folder, files in (("safetensors", safetensors_files()), ("npy", npy_files()),
                          ("decomposition", decomposition_files()), ("gguf", gguf_files()),
                          ("imatrix", imatrix_files()), ("bitsandbytes", bitsandbytes_files())):
        directory = CORPUS / folder
        directory.mkdir(parents=True, exist_ok=True)
        for old in directory.iterdir():
            old.unlink()
        for name, contents in files:
            (directory / name).write_bytes(contents)


if __name__ == "__main__":
    main()
