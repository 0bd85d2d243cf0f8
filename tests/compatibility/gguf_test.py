# SPDX-FileCopyrightText: 2026 The qlr authors
# SPDX-License-Identifier: MIT
"""gguf_test.py FOLDER: reads what write_gguf_files() wrote there with the package gguf, bit for bit."""

import pathlib
import sys

try:
    import gguf
    import numpy
except ImportError as missing:
    print(f"skipped: {missing}")
    sys.exit(77)


def main(folder: pathlib.Path) -> int:
    weight = numpy.load(folder / "input.npy")
    reader = gguf.GGUFReader(folder / "ours.gguf")
    tensors = {tensor.name: tensor for tensor in reader.tensors}
    num_wrong = 0
    for name in ("q4_0", "q8_0", "iq4_nl"):
        stored = tensors[name].data
        values = gguf.quants.dequantize(stored, tensors[name].tensor_type)
        ours = numpy.load(folder / f"{name}.npy")
        wrong_values = int((values.view(numpy.uint32) != ours.view(numpy.uint32)).sum())
        try:
            theirs = gguf.quants.quantize(weight, tensors[name].tensor_type)
            wrong_bytes = int((theirs != stored).sum())
            print(f"{name}: {stored.size} bytes, {wrong_bytes} differ")
        except NotImplementedError:
            wrong_bytes = 0
            print(f"{name}: the package cannot quantize to it, bytes are not compared")
        print(f"{name}: {ours.size} values, {wrong_values} differ")
        num_wrong += wrong_values + wrong_bytes
    return 1 if num_wrong else 0


if __name__ == "__main__":
    sys.exit(main(pathlib.Path(sys.argv[1])))
