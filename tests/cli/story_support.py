# SPDX-FileCopyrightText: 2026 The qlr authors
# SPDX-License-Identifier: MIT
"""Small Llama models and tokenizers as files, and the same model in plain Python, for the tests of story."""

import json
import math
import random
import struct
import unittest

import support
from support import CommandLineTest, f32, tensor

MODEL, TOKENIZER = "weights/stories260K.safetensors", "weights/tok512.bin"
PIECES = ["<unk>", "\n<s>\n", "\n</s>\n", " ", *"abcdefghij", "ab", "bc", "abc", " a", "de", "ef", "def", "gh"]
# Merging the highest score first: "abc" becomes a + bc, "def" becomes de + f.
SCORES = {"ab": -2.0, "bc": -1.0, "abc": -3.0, "de": -4.0, "ef": -5.0, "def": -6.0, " a": -7.0, "gh": -8.0}


def tokenizer_bytes(pieces: list = None, longest: int = 7, scores: dict = None) -> bytes:
    content = struct.pack("<i", longest)
    for piece in pieces or PIECES:
        text = piece.encode()
        content += struct.pack("<fi", (scores or SCORES).get(piece, 0.0), len(text)) + text
    return content


class TinyModel:
    """A model with random weights that predicts with large margins."""

    def __init__(self, dim=16, hidden=24, layers=2, heads=4, kv_heads=2, context=96, tied=False, seed=1):
        self.config = {"dim": dim, "hidden_dim": hidden, "n_layers": layers, "n_heads": heads,
                       "n_kv_heads": kv_heads, "vocab_size": len(PIECES), "max_seq_len": context,
                       "tie_word_embeddings": tied, "rms_norm_eps": 1e-5, "rope_theta": 500.0}
        source = random.Random(seed)

        def matrix(rows, cols, size):  # values that bf16 and fp16 hold, so that files of any type agree
            return [[f32(round(source.gauss(0, size) * 32) / 32) for _ in range(cols)] for _ in range(rows)]

        kv_dim = dim // heads * kv_heads
        self.weights = {"model.embed_tokens.weight": matrix(len(PIECES), dim, 1.0), "model.norm.weight": matrix(1, dim, 1.0)}
        if not tied:
            self.weights["lm_head.weight"] = matrix(len(PIECES), dim, 1.0)
        for i in range(layers):
            for name, rows, cols in (("self_attn.q_proj", dim, dim), ("self_attn.k_proj", kv_dim, dim),
                                     ("self_attn.v_proj", kv_dim, dim), ("self_attn.o_proj", dim, dim),
                                     ("mlp.gate_proj", hidden, dim), ("mlp.up_proj", hidden, dim),
                                     ("mlp.down_proj", dim, hidden), ("input_layernorm", 1, dim),
                                     ("post_attention_layernorm", 1, dim)):
                self.weights[f"model.layers.{i}.{name}.weight"] = matrix(rows, cols, 0.5)

    def file(self, dtype: str = "F32", config: dict = None, config_text: str = None, without: str = "") -> bytes:
        """The checkpoint; entries of `config` replace those of the model, None removes one."""
        values = {k: v for k, v in {**self.config, **(config or {})}.items() if v is not None}
        tensors = {}
        for name, rows in self.weights.items():
            if name != without:
                is_vector = name.endswith("norm.weight")
                tensors[name] = tensor(rows, dtype, [len(rows[0])] if is_vector else None)
        entries, data = {"__metadata__": {"config": json.dumps(values) if config_text is None else config_text}}, b""
        for name, (kind, shape, content) in tensors.items():
            entries[name] = {"dtype": kind, "shape": shape, "data_offsets": [len(data), len(data) + len(content)]}
            data += content
        header = json.dumps(entries).encode()
        header += b" " * (-len(header) % 8)
        return struct.pack("<Q", len(header)) + header + data

    def greedy(self, tokens: list, count: int) -> list:
        """The tokens that follow at temperature 0, without the one that ends the text; in double."""
        tokens, found = list(tokens), []
        keys = [[] for _ in range(self.config["n_layers"])]
        values = [[] for _ in range(self.config["n_layers"])]
        logits = []
        for position, token in enumerate(tokens):
            logits = self.step(token, position, keys, values)
        for _ in range(count):
            best = max(range(len(logits)), key=lambda i: logits[i])
            if best in (1, 2):
                break
            found.append(best)
            logits = self.step(best, len(tokens) + len(found) - 1, keys, values)
        return found

    def step(self, token: int, position: int, keys: list, values: list) -> list:
        heads, kv_heads = self.config["n_heads"], self.config["n_kv_heads"]
        size = self.config["dim"] // heads
        x = list(self.weights["model.embed_tokens.weight"][token])
        for i in range(self.config["n_layers"]):
            def layer(name, vector, block=i):
                return times(self.weights[f"model.layers.{block}.{name}.weight"], vector)
            h = self.normalise(x, f"model.layers.{i}.input_layernorm.weight")
            q = self.rotate(layer("self_attn.q_proj", h), position, size)
            keys[i].append(self.rotate(layer("self_attn.k_proj", h), position, size))
            values[i].append(layer("self_attn.v_proj", h))
            attended = []
            for head in range(heads):
                own = slice(head * size, (head + 1) * size)
                other = head // (heads // kv_heads)
                shared = slice(other * size, (other + 1) * size)
                scores = [inner(q[own], k[shared]) / math.sqrt(size) for k in keys[i]]
                weights = [math.exp(s - max(scores)) for s in scores]
                for j in range(shared.start, shared.stop):
                    attended.append(inner(weights, [v[j] for v in values[i]]) / sum(weights))
            x = [a + b for a, b in zip(x, layer("self_attn.o_proj", attended))]
            h = self.normalise(x, f"model.layers.{i}.post_attention_layernorm.weight")
            gated = [g / (1 + math.exp(-g)) * u for g, u in zip(layer("mlp.gate_proj", h), layer("mlp.up_proj", h))]
            x = [a + b for a, b in zip(x, layer("mlp.down_proj", gated))]
        head = "model.embed_tokens.weight" if self.config["tie_word_embeddings"] else "lm_head.weight"
        return times(self.weights[head], self.normalise(x, "model.norm.weight"))

    def normalise(self, x: list, name: str) -> list:
        scale = 1 / math.sqrt(inner(x, x) / len(x) + self.config["rms_norm_eps"])
        return [w * v * scale for w, v in zip(self.weights[name][0], x)]

    def rotate(self, x: list, position: int, size: int) -> list:
        out = list(x)
        for i in range(0, len(x), 2):
            angle = position * self.config["rope_theta"] ** (-(i % size) / size)
            out[i] = x[i] * math.cos(angle) - x[i + 1] * math.sin(angle)
            out[i + 1] = x[i] * math.sin(angle) + x[i + 1] * math.cos(angle)
        return out


def inner(a: list, b: list) -> float:
    return math.fsum(x * y for x, y in zip(a, b))


def times(matrix: list, vector: list) -> list:
    return [inner(row, vector) for row in matrix]


class TinyStoryTest(CommandLineTest):
    """Runs story on files in its folder."""

    FILES = ["m.safetensors", "--tokenizer", "t.bin"]

    def setUp(self):
        super().setUp()
        self.model = TinyModel()
        self.write("m.safetensors", self.model.file())
        self.write("t.bin", tokenizer_bytes())


class RealStoryTest(CommandLineTest):
    """Runs story on the trained model of the reference data."""

    def setUp(self):
        super().setUp()
        if support.DATA_DIR is None or not all((support.DATA_DIR / name).is_file() for name in (MODEL, TOKENIZER)):
            raise unittest.SkipTest("no reference data; give --data or QLR_TEST_DATA_DIR")
        self.files = [support.DATA_DIR / MODEL, "--tokenizer", support.DATA_DIR / TOKENIZER]

    def report(self, *options) -> dict:
        return self.run_json(*self.files, *options)
