#!/usr/bin/env python3
# SPDX-FileCopyrightText: 2026 The qlr authors
# SPDX-License-Identifier: MIT
"""Draws what qlr_matmul_bench measured under the machine's roofline.

    qlr_matmul_bench --benchmark_format=json > matmul.json
    python3 benchmarks/roofline.py matmul.json > roofline.svg [--rows 4096 --cols 4096 --rank 64]

Needs the rows read_bandwidth/cache, fma_peak and those of the shape; an intensity is operations per byte of weights.
"""
import argparse
import json
import math
import re
import sys

WIDTH, HEIGHT = 760, 460
LEFT, RIGHT, TOP, BOTTOM = 70, 150, 46, 52
STYLES = {  # series: colour, legend
    "dense": ("#8a8f98", "dense fp32"),
    "exact": ("#2f6fde", "fused, exact"),
    "bf16": ("#d9822b", "fused, bf16"),
    "int8": ("#2e9e5b", "fused, int8"),
}


def read_rows(path, rows, cols, rank):
    """Returns {series: [(tokens, intensity, GFLOP/s)]}, the read bandwidth in GB/s and the peak in GFLOP/s."""
    with open(path, encoding="utf-8") as file:
        measured = json.load(file)["benchmarks"]
    shape = f"Rows:{rows}/Cols:{cols}"
    patterns = {"dense": rf"matmul_dense/{shape}/Tokens:(\d+)/"}
    for mode in ("exact", "bf16", "int8"):
        patterns[mode] = rf"matmul_fused/{mode}/{shape}/Rank:{rank}/Tokens:(\d+)/"
    series = {name: [] for name in patterns}
    bandwidth = peak = None
    for row in measured:
        if row.get("error_occurred"):
            continue
        if row["name"].startswith("read_bandwidth/cache"):
            bandwidth = row["GB/s"]
        if row["name"].startswith("fma_peak"):
            peak = row["GFLOP/s"]
        for name, pattern in patterns.items():
            found = re.match(pattern, row["name"])
            if found and int(found[1]) not in (tokens for tokens, _, _ in series[name]):
                series[name].append((int(found[1]), row["GFLOP/s"] / row["GB/s"], row["GFLOP/s"]))
    if bandwidth is None or peak is None or not any(series.values()):
        sys.exit(f"{path}: needs read_bandwidth/cache, fma_peak and rows of {shape}")
    return series, bandwidth, peak


class Axes:
    """Logarithmic axes over the points given, widened to whole powers of two and ten."""

    def __init__(self, points):
        xs, ys = [x for x, _ in points], [y for _, y in points]
        self.x = (math.floor(math.log2(min(xs))), math.ceil(math.log2(max(xs))))
        self.y = (math.floor(math.log10(min(ys))), math.ceil(math.log10(max(ys))))

    def at(self, x, y):
        u = (math.log2(x) - self.x[0]) / (self.x[1] - self.x[0])
        v = (math.log10(y) - self.y[0]) / (self.y[1] - self.y[0])
        return LEFT + u * (WIDTH - LEFT - RIGHT), HEIGHT - BOTTOM - v * (HEIGHT - TOP - BOTTOM)


def text(x, y, content, anchor="middle", size=12, extra=""):
    return f'<text x="{x:.1f}" y="{y:.1f}" text-anchor="{anchor}" font-size="{size}" {extra}>{content}</text>'


def line(a, b, colour, extra=""):
    return f'<line x1="{a[0]:.1f}" y1="{a[1]:.1f}" x2="{b[0]:.1f}" y2="{b[1]:.1f}" stroke="{colour}" {extra}/>'


def draw_grid(axes):
    for e in range(axes.x[0], axes.x[1] + 1, 2):
        low, high = axes.at(2.0**e, 10.0 ** axes.y[0]), axes.at(2.0**e, 10.0 ** axes.y[1])
        yield line(low, high, "#e4e6ea")
        yield text(low[0], low[1] + 17, f"{2.0**e:g}")
    for e in range(axes.y[0], axes.y[1] + 1):
        low, high = axes.at(2.0 ** axes.x[0], 10.0**e), axes.at(2.0 ** axes.x[1], 10.0**e)
        yield line(low, high, "#e4e6ea")
        yield text(low[0] - 8, low[1] + 4, f"{10.0**e:g}", "end")
    yield text((LEFT + WIDTH - RIGHT) / 2, HEIGHT - 12, "operations per byte of weights")
    middle = (TOP + HEIGHT - BOTTOM) / 2
    yield text(18, middle, "GFLOP/s", extra=f'transform="rotate(-90 18 {middle:.1f})"')


def draw_roof(axes, bandwidth, peak):
    ridge = peak / bandwidth
    start, end = 2.0 ** axes.x[0], 2.0 ** axes.x[1]
    yield line(axes.at(start, bandwidth * start), axes.at(ridge, peak), "#333", 'stroke-width="2"')
    yield line(axes.at(ridge, peak), axes.at(end, peak), "#333", 'stroke-width="2"')
    x, y = axes.at(end, peak)
    yield text(x, y - 7, f"fp32 multiply-add: {peak:.0f} GFLOP/s", "end", 11)
    x, y = axes.at(start, bandwidth * start)
    yield text(x + 24, y - 4, f"read: {bandwidth:.0f} GB/s", "start", 11)


def draw_series(axes, series):
    for row, (name, points) in enumerate((n, p) for n, p in series.items() if p):
        colour, legend = STYLES[name]
        places = [axes.at(x, y) for _, x, y in sorted(points)]
        yield (f'<polyline fill="none" stroke="{colour}" stroke-width="1.5" points="'
               + " ".join(f"{x:.1f},{y:.1f}" for x, y in places) + '"/>')
        for (tokens, _, rate), (x, y) in zip(sorted(points), places):
            yield (f'<circle cx="{x:.1f}" cy="{y:.1f}" r="4" fill="{colour}">'
                   f"<title>{legend}, {tokens} tokens: {rate:.1f} GFLOP/s</title></circle>")
        y = TOP + 20 + 20 * row
        yield f'<circle cx="{WIDTH - RIGHT + 18}" cy="{y - 4}" r="4" fill="{colour}"/>'
        yield text(WIDTH - RIGHT + 28, y, legend, "start")


def main():
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("results", help="JSON output of qlr_matmul_bench")
    parser.add_argument("--rows", type=int, default=4096)
    parser.add_argument("--cols", type=int, default=4096)
    parser.add_argument("--rank", type=int, default=64)
    options = parser.parse_args()
    series, bandwidth, peak = read_rows(options.results, options.rows, options.cols, options.rank)
    points = [(x, y) for rows in series.values() for _, x, y in rows]
    lowest = min(x for x, _ in points)
    axes = Axes(points + [(lowest, bandwidth * lowest), (peak / bandwidth, peak)])
    tokens = ", ".join(str(t) for t in sorted({t for rows in series.values() for t, _, _ in rows}))
    title = f"{options.rows} x {options.cols}, NF4, rank {options.rank}; points: {tokens} tokens"
    parts = [text(LEFT, 24, title, "start", 14)]
    parts += [*draw_grid(axes), *draw_roof(axes, bandwidth, peak), *draw_series(axes, series)]
    print(f'<svg xmlns="http://www.w3.org/2000/svg" viewBox="0 0 {WIDTH} {HEIGHT}" font-family="sans-serif" fill="#222">')
    print(f'<rect width="{WIDTH}" height="{HEIGHT}" fill="#fff"/>')
    print("\n".join(parts))
    print("</svg>")


if __name__ == "__main__":
    main()
