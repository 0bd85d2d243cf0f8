#!/usr/bin/env python3
# SPDX-FileCopyrightText: 2026 The qlr authors
# SPDX-License-Identifier: MIT
"""Times PyTorch's SVDs on the GPU, the peers of qlr_decompose_cuda_bench.

    torch_svd.py [--rows N] [--rank R] [--calls C]

Prints one JSON object: median seconds of torch.svd_lowrank (2 power iterations, the default) and of torch.linalg.svd, and of
LoftQ's loop (5 iterations: SVD and product; without its quantization, which has no kernel there) on each.
"""

import argparse
import json
import statistics

import torch


def median_seconds(body, calls):
    body()
    times = []
    for _ in range(calls):
        start, end = (torch.cuda.Event(enable_timing=True) for _ in range(2))
        start.record()
        body()
        end.record()
        end.synchronize()
        times.append(1e-3 * start.elapsed_time(end))
    return statistics.median(times)


def main():
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--rows", type=int, default=4096)
    parser.add_argument("--rank", type=int, default=64)
    parser.add_argument("--calls", type=int, default=5)
    args = parser.parse_args()
    torch.manual_seed(2026)
    weight = torch.randn(args.rows, args.rows, device="cuda")

    def low_rank(x):
        u, s, v = torch.svd_lowrank(x, q=args.rank + 8)
        return (u[:, :args.rank] * s[:args.rank]) @ v[:, :args.rank].T

    def full(x):
        u, s, vh = torch.linalg.svd(x, full_matrices=False)
        return (u[:, :args.rank] * s[:args.rank]) @ vh[:args.rank]

    def loop(step):
        x = weight
        for _ in range(5):
            x = weight - step(x)
        return x

    print(json.dumps({
        "torch": torch.__version__, "device": torch.cuda.get_device_name(), "rows": args.rows, "rank": args.rank,
        "svd_lowrank_s": median_seconds(lambda: low_rank(weight), args.calls),
        "linalg_svd_s": median_seconds(lambda: full(weight), min(args.calls, 2)),
        "five_svd_lowrank_s": median_seconds(lambda: loop(low_rank), args.calls),
    }, indent=1))


if __name__ == "__main__":
    main()
