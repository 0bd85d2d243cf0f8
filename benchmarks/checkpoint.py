#!/usr/bin/env python3
# SPDX-FileCopyrightText: 2026 The qlr authors
# SPDX-License-Identifier: MIT
"""How fast compress_checkpoint is, and how it would share a large model among processes.

    checkpoint.py throughput COMPRESS_CHECKPOINT [--scale K] [--exact] [--mpirun "mpirun -n {n}"]
    checkpoint.py scaling REPORT.json [--model 7b|70b]

throughput writes a bf16 checkpoint of one Llama block of 7B (of widths divided by K), compresses it with LoftQ NF4,
rank 64, and prints gigabytes of bf16 weights per minute beside those of reading the file alone, peak memory, and, with
--exact, the same loop with full SVDs. scaling takes the seconds of the layers of such a report, fits the cost model
that the program shares its work by, and simulates 1 to 512 processes on the shapes of a model.
"""

import argparse
import heapq
import json
import os
import pathlib
import random
import resource
import struct
import subprocess
import sys
import tempfile
import time

# hidden, inner, key and value, layers
MODELS = {"7b": (4096, 11008, 4096, 32), "70b": (8192, 28672, 1024, 80)}
OPTIONS = ["--method", "loftq", "--iterations", "5", "--quantizer", "nf4", "--rank", "64", "--quiet"]


def block_shapes(hidden, inner, kv):
    return {"self_attn.q_proj": (hidden, hidden), "self_attn.k_proj": (kv, hidden), "self_attn.v_proj": (kv, hidden),
            "self_attn.o_proj": (hidden, hidden), "mlp.gate_proj": (inner, hidden), "mlp.up_proj": (inner, hidden),
            "mlp.down_proj": (hidden, inner)}


def write_block(path, shapes, seed=1):
    """Normal bf16 numbers: rows are pieces of a pool, from random places."""
    source = random.Random(seed)
    pool = b"".join(struct.pack("<f", source.gauss(0, 0.02))[2:] for _ in range(1 << 20))
    pool += pool[:2 * max(cols for _, cols in shapes.values())]
    entries, end = {}, 0
    for name, (rows, cols) in shapes.items():
        entries[f"model.layers.0.{name}.weight"] = {"dtype": "BF16", "shape": [rows, cols],
                                                    "data_offsets": [end, end + 2 * rows * cols]}
        end += 2 * rows * cols
    header = json.dumps(entries).encode()
    header += b" " * (-len(header) % 8)
    with open(path, "wb") as file:
        file.write(struct.pack("<Q", len(header)) + header)
        for rows, cols in shapes.values():
            for _ in range(rows):
                begin = 2 * source.randrange(1 << 20)
                file.write(pool[begin:begin + 2 * cols])
    return end


def seconds_to_read(path):
    """Of the file with an empty cache where that can be asked for, in pieces of 16 MB."""
    with open(path, "rb", buffering=0) as file:
        os.posix_fadvise(file.fileno(), 0, 0, os.POSIX_FADV_DONTNEED)
        start = time.perf_counter()
        while file.read(1 << 24):
            pass
    return time.perf_counter() - start


def run(command, folder, name):
    """(report, seconds, peak bytes) of a run into a new folder."""
    start = time.perf_counter()
    process = subprocess.Popen([*command, str(folder / "in"), str(folder / name), *OPTIONS], stdout=subprocess.DEVNULL)
    _, status, usage = os.wait4(process.pid, 0)
    if status != 0:
        raise SystemExit(f"{command} failed with {status}")
    report = json.loads((folder / name / "compression_report.json").read_text())
    return report, time.perf_counter() - start, 1024 * usage.ru_maxrss


def throughput(arguments):
    shapes = {name: (rows // arguments.scale, cols // arguments.scale)
              for name, (rows, cols) in block_shapes(*MODELS["7b"][:3]).items()}
    with tempfile.TemporaryDirectory(prefix="qlr-checkpoint-") as name:
        folder = pathlib.Path(name)
        (folder / "in").mkdir()
        size = write_block(folder / "in" / "model.safetensors", shapes)
        largest = 4 * max(rows * cols for rows, cols in shapes.values())
        reading = seconds_to_read(folder / "in" / "model.safetensors")
        print(f"one block, {size / 1e9:.3f} GB of bf16, largest matrix {largest / 1e6:.0f} MB in fp32")
        print(f"reading alone       {reading:8.2f} s   {size / 1e9 / reading * 60:9.2f} GB/min")
        report, seconds, peak = run([arguments.program], folder, "out")
        print(f"LoftQ NF4 r=64      {seconds:8.2f} s   {size / 1e9 / seconds * 60:9.2f} GB/min   peak {peak / 1e6:.0f} MB of "
              f"{(4 * largest + 200e6) / 1e6:.0f} MB allowed, error {report['totals']['relative_error']:.5f}")
        layers = MODELS["7b"][3]
        if arguments.scale == 1:
            print(f"a 7B model of {layers} such blocks, extrapolated: {seconds * layers / 60:.1f} min")
        if arguments.mpirun:
            for processes in (1, 2, 4):
                command = [*arguments.mpirun.format(n=processes).split(), arguments.program, "--threads", "1"]
                _, shared, _ = run(command, folder, f"mpi{processes}")
                one = shared if processes == 1 else one
                print(f"{processes} processes, 1 thread {shared:8.2f} s   {one / shared:9.2f} x one process")
        if arguments.exact:
            OPTIONS.extend(["--svd", "exact"])
            _, full, _ = run([arguments.program], folder, "exact")
            print(f"with full SVDs      {full:8.2f} s   {size / 1e9 / full * 60:9.2f} GB/min   {full / seconds:.1f} x slower")
        if arguments.keep:
            pathlib.Path(arguments.keep).write_text(json.dumps(report, indent=1))


def cost(rows, cols, rank):
    """As estimated_cost() in examples/compress_checkpoint/layer.cpp."""
    return rows * cols * (rank + 32)


def shared(costs, processes):
    """Sums of the true costs when the estimated ones, descending, go to the process with the least so far."""
    heap = [(0.0, i) for i in range(processes)]
    sums = [0.0] * processes
    for estimated, true in sorted(costs, key=lambda pair: -pair[0]):
        load, i = heapq.heappop(heap)
        sums[i] += true
        heapq.heappush(heap, (load + estimated, i))
    return sums


def scaling(arguments):
    report = json.loads(pathlib.Path(arguments.report).read_text())
    rates = [entry["seconds"] / cost(entry["rows"], entry["cols"], entry["rank"]) for entry in report["tensors"]]
    mean = sum(rates) / len(rates)
    spread = [rate / mean for rate in rates]
    hidden, inner, kv, layers = MODELS[arguments.model]
    source = random.Random(1)
    costs = []
    for _ in range(layers):
        for rows, cols in block_shapes(hidden, inner, kv).values():
            estimated = cost(rows, cols, report["tensors"][0]["rank"])
            costs.append((estimated, mean * estimated * source.choice(spread)))
    total = sum(true for _, true in costs)
    longest = max(true for _, true in costs)
    print(f"{arguments.model}: {len(costs)} matrices, {total / 3600:.2f} h on one process of {report['threads']} threads, "
          f"the longest matrix {longest:.0f} s; measured cost per unit {min(spread):.2f} to {max(spread):.2f} of its mean")
    print("| processes | minutes | efficiency | least possible minutes |\n| --- | --- | --- | --- |")
    for processes in (1, 2, 4, 8, 16, 32, 64, 128, 256, 512):
        slowest = max(shared(costs, processes))
        print(f"| {processes} | {slowest / 60:.1f} | {total / processes / slowest:.3f} "
              f"| {max(total / processes, longest) / 60:.1f} |")


def main():
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    actions = parser.add_subparsers(required=True)
    action = actions.add_parser("throughput")
    action.add_argument("program")
    action.add_argument("--scale", type=int, default=1)
    action.add_argument("--exact", action="store_true")
    action.add_argument("--mpirun")
    action.add_argument("--keep", help="write the report of the run here, for scaling")
    action.set_defaults(run=throughput)
    action = actions.add_parser("scaling")
    action.add_argument("report")
    action.add_argument("--model", choices=MODELS, default="70b")
    action.set_defaults(run=scaling)
    arguments = parser.parse_args()
    arguments.run(arguments)


if __name__ == "__main__":
    main()
