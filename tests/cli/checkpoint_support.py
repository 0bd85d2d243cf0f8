# SPDX-FileCopyrightText: 2026 The qlr authors
# SPDX-License-Identifier: MIT
"""Checkpoints shaped like Llama's as files, for the tests of compress_checkpoint."""

import json
import os
import pathlib
import random
import struct
import subprocess
import time

import support
from support import CommandLineTest, read_safetensors, safetensors_bytes

REPORT, PAGE = "compression_report.json", "compression_report.html"
WORK = ".compress_checkpoint"


class Numbers:
    """Normal bf16 numbers as bytes, quickly: pieces of a pool, each row from a place of its own."""

    def __init__(self, seed: int = 1, count: int = 1 << 16, size: float = 0.05):
        self.source = random.Random(seed)
        values = (self.source.gauss(0, size) for _ in range(count))
        self.pool = b"".join(struct.pack("<f", value)[2:] for value in values)

    def matrix(self, rows: int, cols: int) -> bytes:
        content = []
        for _ in range(rows):
            row, left = [], 2 * cols
            while left > 0:
                begin = 2 * self.source.randrange(len(self.pool) // 2)
                row.append(self.pool[begin:begin + left])
                left -= len(row[-1])
            content += row
        return b"".join(content)


def llama_shapes(layers: int, hidden: int, inner: int, vocabulary: int, kv: int) -> dict:
    shapes = {"model.embed_tokens.weight": [vocabulary, hidden], "model.norm.weight": [hidden],
              "lm_head.weight": [vocabulary, hidden]}
    for i in range(layers):
        for name, shape in (("input_layernorm", [hidden]), ("self_attn.q_proj", [hidden, hidden]),
                            ("self_attn.k_proj", [kv, hidden]), ("self_attn.v_proj", [kv, hidden]),
                            ("self_attn.o_proj", [hidden, hidden]), ("post_attention_layernorm", [hidden]),
                            ("mlp.gate_proj", [inner, hidden]), ("mlp.up_proj", [inner, hidden]),
                            ("mlp.down_proj", [hidden, inner])):
            shapes[f"model.layers.{i}.{name}.weight"] = shape
    return shapes


def llama_config(layers: int, hidden: int, inner: int, vocabulary: int, kv: int) -> dict:
    heads = max(1, hidden // 64)
    return {"architectures": ["LlamaForCausalLM"], "model_type": "llama", "hidden_size": hidden,
            "intermediate_size": inner, "num_hidden_layers": layers, "num_attention_heads": heads,
            "num_key_value_heads": max(1, kv * heads // hidden), "vocab_size": vocabulary, "rms_norm_eps": 1e-5,
            "rope_theta": 10000.0, "max_position_embeddings": 2048, "tie_word_embeddings": False,
            "torch_dtype": "bfloat16", "hidden_act": "silu"}


def write_llama(folder, layers=2, hidden=64, inner=96, vocabulary=80, kv=32, shards=2, seed=1) -> dict:
    """A folder as Hugging Face has them, in bf16; returns the shapes."""
    folder = pathlib.Path(folder)
    folder.mkdir(parents=True, exist_ok=True)
    shapes = llama_shapes(layers, hidden, inner, vocabulary, kv)
    numbers, names, weight_map, total = Numbers(seed), list(shapes), {}, 0
    for shard in range(shards):
        name = "model.safetensors" if shards == 1 else f"model-{shard + 1:05}-of-{shards:05}.safetensors"
        tensors = {}
        for key in names[shard * len(names) // shards:(shard + 1) * len(names) // shards]:
            shape = shapes[key]
            rows, cols = shape if len(shape) == 2 else (1, shape[0])
            tensors[key] = ("BF16", shape, numbers.matrix(rows, cols))
            weight_map[key] = name
            total += 2 * rows * cols
        content = safetensors_bytes(tensors)
        (folder / name).write_bytes(content)
    if shards > 1:
        index = {"metadata": {"total_size": total}, "weight_map": weight_map}
        (folder / "model.safetensors.index.json").write_text(json.dumps(index))
    (folder / "config.json").write_text(json.dumps(llama_config(layers, hidden, inner, vocabulary, kv)))
    (folder / "tokenizer.json").write_text('{"version": "1.0"}')
    return shapes


def outputs(folder) -> dict:
    """Every file of an output folder with its content; the reports, which hold times, are left out."""
    folder = pathlib.Path(folder)
    return {str(path.relative_to(folder)): path.read_bytes() for path in sorted(folder.rglob("*"))
            if path.is_file() and path.name not in (REPORT, PAGE)}


def read_all(folder) -> tuple:
    """(metadata, tensors) of all safetensors files of a folder together."""
    metadata, tensors = {}, {}
    for path in sorted(pathlib.Path(folder).glob("*.safetensors")):
        some_metadata, some = read_safetensors(path)
        metadata.update(some_metadata)
        tensors.update(some)
    return metadata, tensors


class CheckpointTest(CommandLineTest):
    """Runs compress_checkpoint on the folder `in`."""

    def setUp(self):
        super().setUp()
        self.shapes = write_llama(self.folder / "in")

    def compress(self, *options, output: str = "out") -> dict:
        """The report of a run that must succeed."""
        return json.loads(self.run_ok("in", output, *options, "--json", "-"))

    def kill_after(self, seconds: float, *arguments) -> bool:
        """Starts a run and kills it; whether it was still running."""
        process = subprocess.Popen([support.BINARY, *map(str, arguments)], cwd=self.folder,
                                   stdout=subprocess.DEVNULL, stderr=subprocess.PIPE)
        try:
            process.wait(timeout=seconds)
        except subprocess.TimeoutExpired:
            process.kill()
        message = process.communicate()[1]
        if process.returncode not in (0, -9):
            self.fail(f"status {process.returncode}: {message!r}")
        return process.returncode == -9

    def seconds_of(self, *arguments) -> float:
        start = time.monotonic()
        self.run_ok(*arguments)
        return time.monotonic() - start


def environment(**changes) -> dict:
    return {**os.environ, **changes}
