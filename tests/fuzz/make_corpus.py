#!/usr/bin/env python3
# SPDX-FileCopyrightText: 2026 The qlr authors
# SPDX-License-Identifier: MIT
"""Writes the seed files of the fuzzers: corpus/safetensors/* and corpus/npy/*.

Files named ok_* are valid; unsupported_* are valid but not readable as a matrix; all others are
malformed and named after what is wrong.
"""

import pathlib
import struct

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


def main():
    for folder, files in (("safetensors", safetensors_files()), ("npy", npy_files())):
        directory = CORPUS / folder
        directory.mkdir(parents=True, exist_ok=True)
        for old in directory.iterdir():
            old.unlink()
        for name, contents in files:
            (directory / name).write_bytes(contents)


if __name__ == "__main__":
    main()
