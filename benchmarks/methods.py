#!/usr/bin/env python3
# SPDX-FileCopyrightText: 2026 The qlr authors
# SPDX-License-Identifier: MIT
"""Compares all methods at equal total bits: a table of weight error, output error and time for each matrix.

    methods.py DECOMPOSE_MATRIX WEIGHTS.safetensors TENSOR [--calibration FILE | --seed S] [--rank R]

Every row has the same bytes, at most: Q in normal-float levels of 4, 3 and 2 bits with a scale per 64 weights, and
a low-rank part of R vectors in fp16, or what its bytes buy otherwise; svdquant alone has 4 bytes per input more.
Without --calibration the inputs are Gaussian with a random covariance of seed S.
"""

import argparse
import json
import math
import pathlib
import random
import struct
import subprocess
import tempfile

METHODS = ["qlora", "loftq", "lq-lora", "zeroquant-v2", "lqer", "l2qer", "qera-approx", "qera-exact", "eora", "gptq",
           "svdquant", "srr", "odlri", "caldera", "gptq-intrinsic", "best"]
GROUP, SCALE_BITS = 64, 16


def write_covariance(path, size, seed):
    """H = D M M^T D / size: M of independent normal numbers, D log-normal, as a .safetensors file."""
    source = random.Random(seed)
    mixing = [[source.gauss(0, 1) for _ in range(size)] for _ in range(size)]
    loudness = [math.exp(source.gauss(0, 1)) for _ in range(size)]
    values = [[a * b * math.fsum(x * y for x, y in zip(p, q)) / size for b, q in zip(loudness, mixing)]
              for a, p in zip(loudness, mixing)]
    data = struct.pack(f"<{size * size}d", *(values[max(i, j)][min(i, j)] for i in range(size) for j in range(size)))
    header = json.dumps({"covariance": {"dtype": "F64", "shape": [size, size], "data_offsets": [0, len(data)]}}).encode()
    header += b" " * (-len(header) % 8)
    pathlib.Path(path).write_bytes(struct.pack("<Q", len(header)) + header + data)


class Runs:
    def __init__(self, arguments, calibration):
        self.command = [arguments.program, arguments.weights, "--tensor", arguments.tensor, "--calibration", calibration]

    def report(self, *options):
        done = subprocess.run([*self.command, *map(str, options), "--json", "-"], capture_output=True, text=True)
        if done.returncode != 0:
            raise SystemExit(done.stderr)
        return json.loads(done.stdout)


def rows_of(runs, rank, shape):
    """(name, options) of every row at one width of Q."""
    rows, cols = shape
    for method in METHODS:
        yield method, ["--method", method, "--rank", rank]
    # The same bytes: factors of 8.25 or 4.25 bits, or a scale for every few weights.
    for bits, width in ((8, 8.25), (4, 4.25)):
        more = min(int(16 * rank / width), rows, cols)
        yield f"best, {bits}-bit factors", ["--method", "best", "--rank", more, "--factor-bits", bits]
    finer = math.ceil(SCALE_BITS / (SCALE_BITS / GROUP + 16 * rank * (rows + cols) / (rows * cols)))
    for method in ("qlora", "gptq", "best"):
        name = f"{method}, no low rank, groups of {finer}"
        yield name, ["--method", method, "--rank", 0, "--group-size", finer]


def main():
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("program")
    parser.add_argument("weights")
    parser.add_argument("tensor")
    parser.add_argument("--calibration")
    parser.add_argument("--seed", type=int, default=1)
    parser.add_argument("--rank", type=int, default=16)
    arguments = parser.parse_args()
    probe = subprocess.run([arguments.program, arguments.weights, "--tensor", arguments.tensor, "--method", "qlora",
                            "--json", "-"], capture_output=True, text=True, check=True)
    shape = json.loads(probe.stdout)["rows"], json.loads(probe.stdout)["cols"]
    with tempfile.TemporaryDirectory() as folder:
        calibration = arguments.calibration or f"{folder}/covariance.safetensors"
        if not arguments.calibration:
            write_covariance(calibration, shape[1], arguments.seed)
        runs = Runs(arguments, calibration)
        lines = {}
        for bits in (4, 3, 2):
            for name, options in rows_of(runs, arguments.rank, shape):
                found = runs.report("--quantizer", f"nf{bits}", *options)
                lines.setdefault(name, []).append(found)
        total = [found["bits_per_weight"] for found in lines["best"]]
        print(f"`{arguments.tensor}` {shape[0]} x {shape[1]}, rank {arguments.rank}: "
              f"{total[0]:.3f}, {total[1]:.3f} and {total[2]:.3f} bits per weight\n")
        print("| method | NF4: weight, output error, s | NF3 | NF2 |\n| --- | --- | --- | --- |")
        for name, row in lines.items():
            cells = [f"{found['relative_error']:.4f}, {found['relative_output_error']:.4f}, {found['seconds_total']:.2f}"
                     for found in row]
            print(f"| {name} | {' | '.join(cells)} |")
        best = [found["relative_output_error"] for found in lines["best"]]
        for name, row in lines.items():
            for found, least, bits in zip(row, best, total):
                if "," not in name and found["bits_per_weight"] <= bits and found["relative_output_error"] < least:
                    print(f"best is not at or below {name}: {least} {found['relative_output_error']}")


if __name__ == "__main__":
    main()
