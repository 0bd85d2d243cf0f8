# SPDX-FileCopyrightText: 2026 The qlr authors
# SPDX-License-Identifier: MIT
"""Small files, matrices as lists of rows, and runners, for the tests of the command lines."""

import argparse
import importlib
import json
import math
import os
import pathlib
import random
import struct
import subprocess
import tempfile
import unittest

Matrix = list  # of rows, each a list of float

BINARY = "decompose_matrix"  # set by main
DATA_DIR = None
SKIPPED = 77

FLOAT_FORMATS = {"F32": "f", "F16": "e", "F64": "d", "I8": "b", "U8": "B"}


def f32(value: float) -> float:
    """The nearest float32."""
    return struct.unpack("<f", struct.pack("<f", value))[0]


def random_matrix(rows: int, cols: int, seed: int = 1) -> Matrix:
    """Float32 values with a few strong columns."""
    source = random.Random(seed)
    return [[f32(source.gauss(0, 0.1) * (4 if j % 11 == 3 else 1)) for j in range(cols)] for _ in range(rows)]


def pack(values: Matrix, dtype: str = "F32") -> bytes:
    if dtype == "BF16":  # the upper half of a float32, cut off
        return b"".join(struct.pack("<f", v)[2:] for row in values for v in row)
    flat = [v for row in values for v in row]
    return struct.pack(f"<{len(flat)}{FLOAT_FORMATS[dtype]}", *flat)


def safetensors_bytes(tensors: dict, header: str = None) -> bytes:
    """`tensors` maps names to (dtype, shape, bytes); `header` replaces the JSON text."""
    entries, data = {}, b""
    for name, (dtype, shape, content) in tensors.items():
        entries[name] = {"dtype": dtype, "shape": shape, "data_offsets": [len(data), len(data) + len(content)]}
        data += content
    text = (json.dumps(entries) if header is None else header).encode()
    text += b" " * (-len(text) % 8)
    return struct.pack("<Q", len(text)) + text + data


def tensor(values: Matrix, dtype: str = "F32", shape: list = None) -> tuple:
    return dtype, [len(values), len(values[0])] if shape is None else shape, pack(values, dtype)


def npy_bytes(values: Matrix, descr: str = "<f4", fortran: bool = False, shape: tuple = None) -> bytes:
    shape = shape or (len(values), len(values[0]))
    text = f"{{'descr': {descr!r}, 'fortran_order': {fortran}, 'shape': {shape}, }}"
    text += " " * (-(10 + len(text) + 1) % 64) + "\n"
    rows = [list(column) for column in zip(*values)] if fortran else values
    order = ">" if descr[0] == ">" else "<"
    code = {"f4": "f", "f8": "d", "f2": "e"}.get(descr[1:], "f")
    data = b"".join(struct.pack(f"{order}{len(row)}{code}", *row) for row in rows)
    return b"\x93NUMPY\x01\x00" + struct.pack("<H", len(text)) + text.encode() + data


def read_safetensors(path) -> tuple:
    """(metadata, {name: (dtype, shape, bytes)}) after checking that the tensors cover the data part."""
    contents = pathlib.Path(path).read_bytes()
    length = struct.unpack_from("<Q", contents)[0]
    header = json.loads(contents[8:8 + length])
    metadata = header.pop("__metadata__", {})
    data, covered, tensors = contents[8 + length:], 0, {}
    for name, entry in sorted(header.items(), key=lambda item: item[1]["data_offsets"]):
        begin, end = entry["data_offsets"]
        if begin != covered:
            raise ValueError(f"hole before {name}")
        covered = end
        tensors[name] = (entry["dtype"], entry["shape"], data[begin:end])
    if covered != len(data):
        raise ValueError("bytes after the last tensor")
    return metadata, tensors


def unpack(entry: tuple) -> Matrix:
    dtype, shape, content = entry
    flat = struct.unpack(f"<{math.prod(shape)}{FLOAT_FORMATS[dtype]}", content)
    rows, cols = shape
    return [list(flat[i * cols:(i + 1) * cols]) for i in range(rows)]


def product(a: Matrix, b: Matrix) -> Matrix:
    columns = list(zip(*b)) if b else []
    return [[math.fsum(x * y for x, y in zip(row, column)) for column in columns] for row in a]


def add(a: Matrix, b: Matrix, factor: float = 1.0) -> Matrix:
    return [[x + factor * y for x, y in zip(p, q)] for p, q in zip(a, b)]


def norm(values: Matrix, weights: Matrix = None) -> float:
    """Frobenius norm, or sqrt(sum w x^2)."""
    if weights is None:
        return math.sqrt(math.fsum(x * x for row in values for x in row))
    return math.sqrt(math.fsum(w * x * x for p, q in zip(values, weights) for x, w in zip(p, q)))


def relative_error(exact: Matrix, approximate: Matrix, weights: Matrix = None) -> float:
    return norm(add(exact, approximate, -1.0), weights) / norm(exact, weights)


def output_error(exact: Matrix, approximate: Matrix, x: Matrix) -> float:
    transposed = [list(column) for column in zip(*x)]
    return norm(product(add(exact, approximate, -1.0), transposed)) / norm(product(exact, transposed))


class CommandLineTest(unittest.TestCase):
    """Runs the program in a folder of its own."""

    def setUp(self):
        folder = tempfile.TemporaryDirectory(prefix="qlr-cli-")
        self.addCleanup(folder.cleanup)
        self.folder = pathlib.Path(folder.name)

    def write(self, name: str, content: bytes) -> str:
        (self.folder / name).write_bytes(content)
        return name

    def write_weight(self, rows: int = 24, cols: int = 96, seed: int = 1) -> Matrix:
        """w.safetensors with the tensor w."""
        weight = random_matrix(rows, cols, seed)
        self.write("w.safetensors", safetensors_bytes({"w": tensor(weight)}))
        return weight

    def run_program(self, *arguments, **options) -> subprocess.CompletedProcess:
        return subprocess.run([BINARY, *map(os.fsdecode, map(os.fsencode, map(str, arguments)))],
                              cwd=self.folder, capture_output=True, timeout=120, **options)

    def run_ok(self, *arguments) -> str:
        """Standard output of a run that must succeed and leave standard error empty."""
        done = self.run_program(*arguments)
        self.assertEqual((done.returncode, done.stderr), (0, b""), arguments)
        return done.stdout.decode()

    def run_json(self, *arguments) -> dict:
        return json.loads(self.run_ok(*arguments, "--json", "-"))

    def listing(self) -> dict:
        """Every path below the folder with its content."""
        return {str(path.relative_to(self.folder)): path.read_bytes() if path.is_file() else None
                for path in sorted(self.folder.rglob("*"))}

    def check_refused(self, arguments, *parts: str):
        """Exit code 2, one line on standard error with each of the parts, no table rows and no new file."""
        before = self.listing()
        done = self.run_program(*arguments)
        error = done.stderr.decode(errors="replace")
        with self.subTest(arguments=arguments, error=error):
            self.assertEqual(done.returncode, 2)
            self.assertTrue(error.startswith(f"{pathlib.Path(BINARY).name}: "))
            self.assertEqual(error.count("\n"), 1)
            self.assertTrue(error.endswith("\n"))
            for part in parts:
                self.assertIn(part, error)
            lines = done.stdout.decode().splitlines()
            self.assertTrue(not lines or lines[-1].startswith("iteration "), done.stdout)
            self.assertEqual(self.listing(), before)

    def assert_near(self, found: float, expected: float, tolerance: float = 1e-5):
        self.assertIsInstance(found, float)
        self.assertLessEqual(abs(found - expected), tolerance * abs(expected) + 1e-12, (found, expected))


def main(suites: list) -> int:
    """Runs the suites that the command line names, or all; returns the exit status."""
    global BINARY, DATA_DIR
    parser = argparse.ArgumentParser()
    parser.add_argument("binary")
    parser.add_argument("suites", nargs="*", default=[])
    parser.add_argument("--data", default=os.environ.get("QLR_TEST_DATA_DIR"))
    arguments = parser.parse_args()
    unknown = [name for name in arguments.suites if name not in suites]
    if unknown:
        parser.error(f"unknown suite {unknown[0]}, there are {', '.join(suites)}")
    BINARY = str(pathlib.Path(arguments.binary).resolve())
    DATA_DIR = pathlib.Path(arguments.data).resolve() if arguments.data else None

    tests = unittest.TestSuite()
    for name in arguments.suites or suites:
        tests.addTests(unittest.defaultTestLoader.loadTestsFromModule(importlib.import_module(f"{name}_cases")))
    result = unittest.TextTestRunner(verbosity=2).run(tests)
    for _, reason in result.skipped:
        print(f"SKIPPED: {reason}")
    if not result.wasSuccessful() or result.testsRun == 0:
        return 1
    return SKIPPED if len(result.skipped) == result.testsRun else 0
