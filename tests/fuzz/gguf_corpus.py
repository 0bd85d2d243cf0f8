# SPDX-FileCopyrightText: 2026 The qlr authors
# SPDX-License-Identifier: MIT
"""Seed files of the fuzzers of GGUF files and of importance matrices; written by make_corpus.py."""

import struct


def gguf_text(text):
    return struct.pack("<Q", len(text)) + text.encode()


def gguf_value(key, kind, content):
    return gguf_text(key) + struct.pack("<I", kind) + content


def gguf_array(kind, count, content):
    return struct.pack("<IQ", kind, count) + content


def gguf_tensor(name="t", dims=(3, 2), kind=0, offset=0, num_dims=None):
    return (gguf_text(name) + struct.pack("<I", len(dims) if num_dims is None else num_dims)
            + struct.pack(f"<{len(dims)}Q", *dims) + struct.pack("<IQ", kind, offset))


def gguf(values=(), tensors=(), data=b"", version=3, num_values=None, num_tensors=None, alignment=32):
    head = b"GGUF" + struct.pack("<IQQ", version, len(tensors) if num_tensors is None else num_tensors,
                                 len(values) if num_values is None else num_values)
    head += b"".join(values) + b"".join(tensors)
    return head + bytes(-len(head) % alignment) + data if tensors else head


def one_gguf(data_bytes=24, **fields):
    return gguf(tensors=[gguf_tensor(**fields)], data=bytes(data_bytes))


def two_gguf(first, second, data_bytes=96, **fields):
    tensors = [gguf_tensor("a", (8,), 0, first), gguf_tensor("b", (8,), 0, second)]
    return gguf(tensors=tensors, data=bytes(data_bytes), **fields)


def gguf_files():
    yield "ok_empty", gguf()
    yield "ok_version_2", gguf(version=2)
    yield "ok_f32", one_gguf()
    yield "ok_f16", one_gguf(kind=1, dims=(12,))
    yield "ok_f64", one_gguf(kind=28, dims=(1, 1, 3))
    yield "ok_bf16", one_gguf(kind=30, dims=(3, 2, 2, 1))
    yield "ok_scalar", one_gguf(4, dims=())
    yield "ok_empty_tensor", one_gguf(0, dims=(0, 5))
    yield "ok_two_tensors", two_gguf(0, 32)
    yield "ok_two_tensors_reversed", two_gguf(32, 0)
    yield "ok_gap", two_gguf(0, 64)
    alignment = gguf_value("general.alignment", 4, struct.pack("<I", 8))
    yield "ok_alignment", gguf([alignment], [gguf_tensor(offset=8)], bytes(32), alignment=8)
    numbers = [gguf_value(f"n{kind}", kind, b"\1" * size)
               for kind, size in ((0, 1), (1, 1), (2, 2), (3, 2), (4, 4), (5, 4), (6, 4), (7, 1), (10, 8), (11, 8), (12, 8))]
    yield "ok_numbers", gguf(numbers)
    yield "ok_text", gguf([gguf_value("k", 8, gguf_text("value"))])
    yield "ok_array", gguf([gguf_value("k", 9, gguf_array(5, 2, bytes(8)))])
    yield "ok_array_of_texts", gguf([gguf_value("k", 9, gguf_array(8, 2, gguf_text("a") + gguf_text("")))])
    nested = gguf_array(0, 1, b"\7")
    yield "ok_array_of_arrays", gguf([gguf_value("k", 9, gguf_array(9, 2, nested + nested))])
    yield "ok_q4_0", one_gguf(36, kind=2, dims=(32, 2))
    yield "ok_q8_0", one_gguf(68, kind=8, dims=(32, 2))
    yield "ok_iq4_nl", one_gguf(36, kind=20, dims=(64,))
    yield "ok_q4_0_empty", one_gguf(0, kind=2, dims=(0, 2**50))
    yield "q8_0_scale_infinite", gguf(tensors=[gguf_tensor(dims=(32,), kind=8)], data=b"\0\x7c" + bytes(32))
    yield "q4_0_scale_nan", gguf(tensors=[gguf_tensor(dims=(32,), kind=2)], data=b"\1\x7e" + bytes(16))
    yield "unsupported_q4_1", one_gguf(40, kind=3, dims=(32, 2))
    yield "unsupported_unknown_type", one_gguf(36, kind=1000)
    yield "unsupported_unknown_type_huge", one_gguf(36, kind=1000, dims=(1 << 55, 2))
    yield "unsupported_version_1", gguf(version=1)
    yield "unsupported_version_4", gguf(version=4)
    yield "unsupported_big_endian", gguf(version=0x03000000)
    deep = nested
    for _ in range(20):
        deep = gguf_array(9, 1, deep)
    yield "unsupported_deep_arrays", gguf([gguf_value("k", 9, deep)])

    yield "no_bytes", b""
    yield "magic_cut", b"GGU"
    yield "magic_wrong", b"GGUG" + gguf()[4:]
    yield "version_cut", b"GGUF\3"
    yield "counts_cut", gguf()[:-1]
    yield "values_missing", gguf(num_values=1)
    yield "values_huge", gguf(num_values=2**64 - 1)
    yield "tensors_missing", gguf(num_tensors=1)
    yield "tensors_huge", gguf(num_tensors=2**63)
    yield "key_beyond_file", gguf([struct.pack("<Q", 2**64 - 1) + bytes(16)])
    yield "key_twice", gguf([gguf_value("k", 0, b"\0")] * 2)
    yield "value_type_unknown", gguf([gguf_value("k", 13, bytes(8))])
    yield "value_cut", gguf([gguf_value("key", 12, bytes(7))])
    yield "boolean_2", gguf([gguf_value("k", 7, b"\2")])
    yield "boolean_2_in_array", gguf([gguf_value("k", 9, gguf_array(7, 2, b"\1\2"))])
    yield "text_beyond_file", gguf([gguf_value("k", 8, struct.pack("<Q", 6) + b"value")])
    yield "array_beyond_file", gguf([gguf_value("k", 9, gguf_array(5, 3, bytes(11)))])
    yield "array_overflows", gguf([gguf_value("k", 9, gguf_array(10, 2**61, bytes(16)))])
    yield "array_of_texts_overflows", gguf([gguf_value("k", 9, gguf_array(8, 2**63, bytes(16)))])
    yield "array_of_unknown", gguf([gguf_value("k", 9, gguf_array(13, 0, b""))])
    yield "alignment_0", gguf([gguf_value("general.alignment", 4, bytes(4))])
    yield "alignment_24", gguf([gguf_value("general.alignment", 4, struct.pack("<I", 24))])
    yield "alignment_text", gguf([gguf_value("general.alignment", 8, gguf_text("32"))])
    yield "alignment_beyond_file", gguf([gguf_value("general.alignment", 4, struct.pack("<I", 2**31))],
                                        [gguf_tensor()], bytes(24))
    yield "name_beyond_file", gguf(tensors=[struct.pack("<Q", 2**40) + bytes(24)])
    yield "dimensions_5", one_gguf(4, dims=(1, 1, 1, 1, 1))
    yield "dimensions_huge", one_gguf(num_dims=2**32 - 1)
    yield "extent_beyond_64_bits", one_gguf(dims=(2**64 - 1, 1))
    yield "shape_overflows", one_gguf(dims=(2**32, 2**32))
    yield "shape_overflows_to_size", one_gguf(dims=(2**62 + 6,))
    yield "shape_overflows_behind_zero", one_gguf(0, dims=(2**40, 2**40, 0))
    yield "shape_of_unknown_overflows", one_gguf(kind=1000, dims=(2**32, 2**32))
    yield "block_incomplete", one_gguf(36, kind=2, dims=(33, 2))
    yield "offset_unaligned", one_gguf(56, offset=8)
    yield "offset_huge", one_gguf(offset=2**63)
    yield "offset_wraps", one_gguf(offset=2**63 - 32)
    yield "data_cut", one_gguf(23)
    yield "data_missing", one_gguf(0)
    yield "tensor_twice", gguf(tensors=[gguf_tensor(), gguf_tensor(offset=32)], data=bytes(64))
    yield "tensors_overlap", gguf(tensors=[gguf_tensor("a", (16,)), gguf_tensor("b", (8,), 0, 32)], data=bytes(64))
    yield "tensors_identical", two_gguf(0, 0)


def plain_imatrix(*entries, count=None, tail=b""):
    text = struct.pack("<i", len(entries) if count is None else count)
    for name, calls, values in entries:
        text += struct.pack("<i", len(name)) + name.encode() + struct.pack("<ii", calls, len(values))
        text += struct.pack(f"<{len(values)}f", *values)
    return text + tail


def gguf_imatrix(*parts, kind="imatrix"):
    """Parts: name, dimensions, values."""
    values = [gguf_value("general.type", 8, gguf_text(kind)),
              gguf_value("imatrix.datasets", 9, gguf_array(8, 1, gguf_text("wiki")))]
    tensors, data = [], b""
    for name, dims, numbers in parts:
        tensors.append(gguf_tensor(name, dims, 0, len(data)))
        data += struct.pack(f"<{len(numbers)}f", *numbers)
        data += bytes(-len(data) % 32)
    return gguf(values, tensors, data)


def imatrix_files():
    nan, infinity = float("nan"), float("inf")
    entry = ("w", 2, (1, 2, 3))
    yield "ok_plain", plain_imatrix(entry)
    yield "ok_plain_two", plain_imatrix(entry, ("v", 1, (4, 0)))
    yield "ok_plain_last_chunk", plain_imatrix(entry, tail=struct.pack("<i", 5))
    yield "ok_plain_data_set", plain_imatrix(entry, tail=struct.pack("<ii", 5, 4) + b"wiki")
    yield "ok_plain_count_0", plain_imatrix(("w", 0, (0, 0)))
    yield "ok_plain_no_values", plain_imatrix(("", 3, ()))
    squares, counts = ("w.in_sum2", (2, 2), (1, 2, 3, 4)), ("w.counts", (1, 2), (2, 1))
    yield "ok_gguf", gguf_imatrix(squares, counts)
    yield "ok_gguf_sums", gguf_imatrix(squares, counts, ("w.in_sum", (2, 2), (-1, 0, 1, 2)))
    yield "ok_gguf_unseen_expert", gguf_imatrix(squares, ("w.counts", (1, 2), (2, 0)))
    yield "ok_gguf_no_counts", gguf_imatrix(squares)
    yield "ok_gguf_no_squares", gguf_imatrix(counts)
    yield "unsupported_gguf_q4_1", gguf(tensors=[gguf_tensor("w.in_sum2", (32,), 3), gguf_tensor("w.counts", (1,), 0, 32)],
                                        data=bytes(36))
    yield "unsupported_gguf_type_huge", gguf(tensors=[gguf_tensor("w.in_sum2", (1 << 55, 2), 1000),
                                                      gguf_tensor("w.counts", (1,), 0, 32)], data=bytes(36))
    yield "unsupported_gguf_version_1", gguf(version=1)
    yield "non_finite_plain", plain_imatrix(("w", 2, (1, nan)))
    yield "non_finite_plain_count_0", plain_imatrix(("w", 0, (0, infinity)))
    yield "non_finite_gguf", gguf_imatrix(("w.in_sum2", (2, 2), (1, 2, -infinity, 4)), counts)
    yield "non_finite_gguf_counts", gguf_imatrix(squares, ("w.counts", (1, 2), (2, nan)))
    yield "non_finite_gguf_sums", gguf_imatrix(squares, counts, ("w.in_sum", (2, 2), (nan, 0, 1, 2)))
    yield "non_finite_gguf_ratio", gguf_imatrix(("w.in_sum2", (1,), (1e38,)), ("w.counts", (1,), (1e-38,)))

    yield "no_bytes", b""
    yield "count_cut", b"\1\0\0"
    yield "count_0", plain_imatrix()
    yield "count_negative", plain_imatrix(entry, count=-1)
    yield "count_huge", plain_imatrix(entry, count=2**31 - 1)
    yield "count_too_large", plain_imatrix(entry, count=2)
    yield "count_too_small", plain_imatrix(entry, ("v" * 40, 1, (4, 0)), count=1)
    yield "name_negative", struct.pack("<ii", 1, -1) + bytes(16)
    yield "name_beyond_file", struct.pack("<ii", 1, 2**31 - 1) + bytes(16)
    yield "values_negative", struct.pack("<iiii", 1, 0, 1, -1)
    yield "values_beyond_file", struct.pack("<iiii", 1, 0, 1, 2**31 - 1) + bytes(16)
    yield "values_cut", plain_imatrix(entry)[:-1]
    yield "calls_negative", plain_imatrix(("w", -2, (1, 2)))
    yield "square_negative", plain_imatrix(("w", 2, (1, -2)))
    yield "entry_twice", plain_imatrix(entry, entry)
    yield "last_chunk_cut", plain_imatrix(entry, tail=b"\5")
    yield "data_set_cut", plain_imatrix(entry, tail=struct.pack("<ii", 5, 4) + b"wik")
    yield "data_set_negative", plain_imatrix(entry, tail=struct.pack("<ii", 5, -4) + b"wiki")
    yield "bytes_at_end", plain_imatrix(entry, tail=struct.pack("<ii", 5, 4) + b"wiki\0")
    yield "gguf_of_a_model", gguf_imatrix(squares, counts, kind="model")
    yield "gguf_without_sums", gguf_imatrix(("w", (1,), (1,)))
    yield "gguf_without_tensors", gguf()
    yield "gguf_cut", gguf_imatrix(squares, counts)[:-30]
    yield "gguf_counts_negative", gguf_imatrix(squares, ("w.counts", (1, 2), (2, -1)))
    yield "gguf_counts_too_many", gguf_imatrix(squares, ("w.counts", (1, 3), (2, 1, 1)))
    yield "gguf_sums_of_another_shape", gguf_imatrix(squares, counts, ("w.in_sum", (2,), (1, 2)))
