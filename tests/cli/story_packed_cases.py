# SPDX-FileCopyrightText: 2026 The qlr authors
# SPDX-License-Identifier: MIT
"""Compressed checkpoints in story: they tell what the weights they stand for tell in plain Python."""

import json
import random

from packed_support import PackedWeight, checkpoint_file, index_bytes
from story_support import PIECES, TinyModel, TinyStoryTest, tensor

AB = [1, PIECES.index(" "), PIECES.index("ab")]  # what the prompt "ab" becomes
COMPRESSED = ["--tokenizer", "t.bin"]


class PackedModel(TinyModel):
    """A model whose linear layers are decompositions; `weights` is what they stand for."""

    def __init__(self, rank: int = 2, bits: int = 8, kept: tuple = (), also: tuple = (), **options):
        super().__init__(**options)
        source = random.Random(5)
        self.packed = {}
        for name, rows in self.weights.items():
            is_linear = name.startswith("model.layers.") and "norm" not in name
            if not (is_linear and name not in kept) and name not in also:
                continue
            left = [[source.randint(-4, 4) / 8 for _ in range(rank)] for _ in rows]
            right = [[source.randint(-4, 4) / 8 for _ in rows[0]] for _ in range(rank)]
            self.packed[name] = PackedWeight(rows, bits, left, right)
            self.weights[name] = self.packed[name].dense()

    def dense_tensors(self) -> dict:
        return {name: tensor(rows, "F32", [len(rows[0])] if name.endswith("norm.weight") else None)
                for name, rows in self.weights.items() if name not in self.packed}

    def packed_file(self) -> bytes:
        return checkpoint_file(self.dense_tensors(), self.packed, {"config": json.dumps(self.config)})

    def num_bytes(self) -> int:
        """Of the linear layers."""
        dense = sum(4 * len(rows) * len(rows[0]) for name, rows in self.weights.items()
                    if name.startswith("model.layers.") and "norm" not in name and name not in self.packed)
        return dense + sum(w.num_bytes() for name, w in self.packed.items() if name.startswith("model.layers."))


class PackedTest(TinyStoryTest):
    def write_model(self, **options) -> PackedModel:
        model = PackedModel(**options)
        self.write("p.safetensors", model.packed_file())
        self.write("m.safetensors", model.file())  # what it stands for
        return model

    def check_text(self, model: PackedModel, path: str, *options, count: int = 20) -> dict:
        found = self.run_json(path, *COMPRESSED, "--tokens", count, "--prompt", "ab", *options)
        expected = "".join(PIECES[t] for t in AB[1:] + model.greedy(AB, count))
        self.assertEqual(found["text"], expected[1:])
        self.assertGreater(found["tokens"], 3)
        return found

    def test_greedy_text_is_that_of_plain_python(self):
        head = ("model.embed_tokens.weight", "lm_head.weight")
        for options in ({}, {"bits": 4}, {"rank": 0}, {"rank": 8}, {"hidden": 37, "bits": 4}, {"also": head},
                        {"kept": ("model.layers.0.mlp.up_proj.weight", "model.layers.1.self_attn.q_proj.weight")}):
            with self.subTest(options=options):
                model = self.write_model(seed=2, **options)
                found = self.check_text(model, "p.safetensors")
                self.assertEqual(found["packed_bytes"], model.num_bytes())
                self.check_text(model, "p.safetensors", "--isa", "scalar")

    def test_a_folder_of_shards(self):
        model = self.write_model(seed=2)
        names = sorted(model.packed)
        (self.folder / "sharded").mkdir()
        metadata = {"config": json.dumps(model.config)}
        files = {"model-00001-of-00002.safetensors": ({}, {n: model.packed[n] for n in names[::2]}, {}),
                 "model-00002-of-00002.safetensors": (model.dense_tensors(), {n: model.packed[n] for n in names[1::2]},
                                                      metadata)}
        for name, (dense, packed, values) in files.items():
            self.write(f"sharded/{name}", checkpoint_file(dense, packed, values))
        places = {name: [*dense, *(t for n, w in packed.items() for t in w.tensors(n + "."))]
                  for name, (dense, packed, _) in files.items()}
        self.write("sharded/model.safetensors.index.json", index_bytes(places))
        self.check_text(model, "sharded")

    def test_the_report_and_the_printed_text(self):
        model = self.write_model()
        found = self.run_json("p.safetensors", *COMPRESSED, "--tokens", 3)
        for key in ("method", "quantizer", "group_size", "scale", "factor_bits", "rank", "relative_error",
                    "seconds_decompose", "reference", "plan", "perplexity"):
            self.assertIsNone(found[key], key)
        self.assertEqual(found["precision"], "exact")
        self.assertTrue(found["instruction_set"])
        self.assertEqual(found["packed_bytes"], model.num_bytes())
        self.assertIn("compressed already", self.run_ok("p.safetensors", *COMPRESSED, "--tokens", 3))

    def test_evaluation_against_the_reference(self):
        model = self.write_model()
        found = self.run_json("p.safetensors", *COMPRESSED, "--tokens", 0, "--evaluate", "--reference", "m.safetensors")
        self.assertLess(abs(found["kl_divergence"]), 1e-6)  # it stands for these very weights
        self.assertGreater(found["top1_agreement"], 0.99)
        self.assertEqual(found["reference"], "m.safetensors")
        name = "model.layers.0.mlp.up_proj.weight"
        model.weights[name] = [[v + 0.5 for v in row] for row in model.weights[name]]
        self.write("m.safetensors", model.file())
        other = self.run_json("p.safetensors", *COMPRESSED, "--tokens", 0, "--evaluate", "--reference", "m.safetensors")
        plain = self.run_json(*self.FILES, "--method", "none", "--tokens", 0, "--evaluate")
        self.assertGreater(other["kl_divergence"], 1e-3)
        self.assertEqual(other["perplexity_fp32"], plain["perplexity"])

    def test_evaluation_without_a_reference(self):
        self.write_model()
        found = self.run_json("p.safetensors", *COMPRESSED, "--tokens", 0, "--evaluate")
        plain = self.run_json(*self.FILES, "--method", "none", "--tokens", 0, "--evaluate")
        self.assert_near(found["perplexity"], plain["perplexity"], 0.05)  # the texts may part at a near tie
        for key in ("perplexity_fp32", "kl_divergence", "top1_agreement"):
            self.assertIsNone(found[key], key)
        self.assertGreater(found["evaluated_tokens"], 10)
        self.assertIn("of its own", self.run_ok("p.safetensors", *COMPRESSED, "--tokens", 0, "--evaluate"))


class PackedRefusalTest(TinyStoryTest):
    def refuse(self, options: list, *parts: str):
        self.check_refused(["p.safetensors", *COMPRESSED, "--json", "j.json", *options], *parts)

    def setUp(self):
        super().setUp()
        self.packed = PackedModel()
        self.write("p.safetensors", self.packed.packed_file())

    def test_options_that_say_how_to_compress(self):
        for options in (["--method", "best"], ["--method", "none"], ["--quantizer", "nf4"], ["--group-size", "8"],
                        ["--scale", "fp16"], ["--scale-search"], ["--factor-bits", "8"], ["--rank", "4"],
                        ["--iterations", "1"], ["--svd", "exact"], ["--plan", "p.json"], ["--sensitivity", "s.json"]):
            self.refuse(options, "'p.safetensors' is compressed already", options[0])

    def test_references(self):
        self.refuse(["--reference", "m.safetensors"], "reference is 'm.safetensors'", "--evaluate")
        self.refuse(["--evaluate", "--reference", "none"], "none")
        self.refuse(["--evaluate", "--reference", "p.safetensors"], "reference 'p.safetensors' is compressed")
        self.write("m.safetensors", self.model.file(config={"max_seq_len": 95}))
        self.refuse(["--evaluate", "--reference", "m.safetensors"], "a model of another config")
        self.check_refused([*self.FILES, "--rank", "2", "--evaluate", "--reference", "m.safetensors"],
                           "reference is 'm.safetensors'", "it needs a compressed model")

    def test_files_that_contradict_themselves(self):
        name = "model.layers.1.mlp.down_proj.weight"
        weight = self.packed.packed[name]
        self.packed.packed[name] = PackedWeight(weight.dense()[:-1], 8, weight.left[:-1], weight.right)
        self.write("p.safetensors", self.packed.packed_file())
        self.refuse([], name, "15 x 24", "16 x 24")
        self.packed.packed[name] = weight
        weight.right = weight.right[:-1]
        self.write("p.safetensors", self.packed.packed_file())
        self.refuse([], name)
        del self.packed.packed[name], self.packed.weights[name]
        self.write("p.safetensors", self.packed.packed_file())
        self.refuse([], f"no tensor is named '{name}'")
