# SPDX-FileCopyrightText: 2026 The qlr authors
# SPDX-License-Identifier: MIT
"""What inspect says about every kind of file."""

import json
import struct

from inspect_support import bitsandbytes_tensors, gguf_bytes, size_of
from packed_support import PackedWeight, checkpoint_file, index_bytes, safetensors_file
from support import CommandLineTest, npy_bytes, random_matrix, tensor


class KindTest(CommandLineTest):
    def look(self, path: str, kind: str, *options) -> dict:
        """The report, in which "items" is by name."""
        found = self.run_json(path, *options)
        self.assertEqual(found["kind"], kind)
        self.assertEqual(found["total"]["rows"], len(found["items"]))
        self.assertEqual(found["total"]["bytes"], sum(row["bytes"] for row in found["items"]))
        self.assertEqual(found["total"]["weights"], sum(row["weights"] for row in found["items"]))
        self.assertTrue(self.run_ok(path).startswith(f"{path}: {kind}, {found['num_files']} file"))
        return {**found, "items": {row["name"]: row for row in found["items"]}}

    def check_row(self, row: dict, **expected):
        self.assertEqual({key: row[key] for key in expected}, expected)
        if row["weights"]:
            self.assert_near(row["bits_per_weight"], 8 * row["bytes"] / row["weights"], 1e-12)
        else:
            self.assertIsNone(row["bits_per_weight"])

    def test_safetensors(self):
        content = safetensors_file({"w": tensor(random_matrix(3, 5), "F16"), "s": ("F32", [], b"\0" * 4),
                                    "none": ("F32", [0, 7], b""), "odd": ("F4", [8], b"\0" * 4)}, {"who": "me"})
        self.write("a.safetensors", content)
        found = self.look("a.safetensors", "safetensors")
        self.assertEqual((found["file_bytes"], found["metadata"]), (len(content), [{"key": "who", "value": "me"}]))
        self.check_row(found["items"]["w"], shape=[3, 5], format="F16", weights=15, bytes=30, rank=None, file=None)
        self.check_row(found["items"]["s"], shape=[], weights=1, bytes=4)
        self.check_row(found["items"]["none"], shape=[0, 7], weights=0, bytes=0)
        self.check_row(found["items"]["odd"], format="F4", weights=8, bytes=4)

    def test_single_decomposition(self):
        weight = PackedWeight(random_matrix(6, 7), 4, random_matrix(6, 2), random_matrix(2, 7))
        self.write("a.safetensors", safetensors_file(weight.tensors(""), weight.metadata("")))
        found = self.look("a.safetensors", "qlr decomposition")
        self.check_row(found["items"][""], shape=[6, 7], format="python", group_size=0, scales="fp32", rank=2,
                       factors="fp32", weights=42, bytes=weight.num_bytes(), note="scale 0.5")

    def test_checkpoint_of_this_library(self):
        packed = {"a.weight": PackedWeight(random_matrix(6, 7), 4, random_matrix(6, 2), random_matrix(2, 7)),
                  "b": PackedWeight(random_matrix(5, 3))}
        dense = {"n.weight": tensor(random_matrix(1, 7))}
        self.write("model.safetensors", checkpoint_file(dense, packed, {"who": "me"}))
        for path in ("model.safetensors", "."):
            found = self.look(path, "qlr checkpoint")
            self.assertEqual(set(found["items"]), {"a.weight", "b", "n.weight"})
            self.check_row(found["items"]["a.weight"], shape=[6, 7], rank=2, group_size=0, weights=42,
                           bytes=packed["a.weight"].num_bytes())
            self.check_row(found["items"]["b"], shape=[5, 3], rank=0, bytes=packed["b"].num_bytes())
            self.check_row(found["items"]["n.weight"], format="F32", group_size=None, weights=7)
            self.assertEqual(found["compressed"]["rows"], 2)
            self.assertEqual(found["compressed"]["weights"], 57)
            self.assertEqual({entry["key"] for entry in found["metadata"]}, {"who", "qlr.format", "qlr.version"})
            self.assertEqual(found["file_bytes"], (self.folder / "model.safetensors").stat().st_size)

    def test_shards(self):
        packed = {"b": PackedWeight(random_matrix(5, 3))}
        one, two = safetensors_file({"n": tensor(random_matrix(1, 7))}, {}), checkpoint_file({}, packed)
        self.write("1.safetensors", one)
        self.write("2.safetensors", two)
        self.write("model.safetensors.index.json", index_bytes({"1.safetensors": ["n"], "2.safetensors": packed["b"].tensors("b.")}))
        for path in (".", "model.safetensors.index.json"):
            found = self.look(path, "qlr checkpoint")
            self.assertEqual((found["num_files"], found["file_bytes"]), (2, len(one) + len(two)))
            self.check_row(found["items"]["n"], file="1.safetensors")
            self.check_row(found["items"]["b"], file="2.safetensors")
        self.write("model.safetensors.index.json", index_bytes({"1.safetensors": ["n"]}))
        self.look(".", "safetensors checkpoint")

    def test_bitsandbytes(self):
        nested = bitsandbytes_tensors("a.weight", 5, 13)
        plain = bitsandbytes_tensors("b.weight", 4, 64, 128, nested=False, dtype=None)
        eight = {"c.weight": ("I8", [3, 4], b"\0" * 12), "c.SCB": ("F32", [3], b"\0" * 12),
                 "c.weight_format": ("U8", [], b"\0")}
        other = {"n.weight": tensor(random_matrix(1, 4))}
        self.write("a.safetensors", safetensors_file({**nested, **plain, **eight, **other}, {}))
        found = self.look("a.safetensors", "bitsandbytes checkpoint")
        self.assertEqual(set(found["items"]), {"a.weight", "b.weight", "c.weight", "n.weight"})
        self.check_row(found["items"]["a.weight"], shape=[5, 13], format="nf4", group_size=64, weights=65,
                       scales="8 bits, nested in 256", bytes=size_of(nested), note="of bfloat16")
        self.check_row(found["items"]["b.weight"], group_size=128, scales="fp32", bytes=size_of(plain), note=None)
        self.check_row(found["items"]["c.weight"], shape=[3, 4], format="int8", group_size=0, bytes=25)
        self.check_row(found["items"]["n.weight"], format="F32", group_size=None)
        self.assertEqual(found["compressed"]["rows"], 3)

    def test_adapter_of_peft(self):
        name = "base_model.model.q_proj"
        self.write("adapter_model.safetensors", safetensors_file(
            {f"{name}.lora_A.weight": tensor(random_matrix(2, 9), "F16"),
             f"{name}.lora_B.weight": tensor(random_matrix(5, 2), "F16"), "base_model.model.x": tensor([[1.0]])}, {}))
        self.write("adapter_config.json", json.dumps({"r": 2, "lora_alpha": 6}).encode())
        for path in (".", "adapter_model.safetensors"):
            found = self.look(path, "PEFT adapter")
            self.check_row(found["items"]["q_proj"], shape=[5, 9], rank=2, factors="F16", weights=28, bytes=56,
                           note="scale 3")
            self.check_row(found["items"]["base_model.model.x"], format="F32", rank=None)

    def test_gguf(self):
        self.write("a.gguf", gguf_bytes({"general.architecture": "llama", "llama.block_count": 7},
                                        {"t.weight": (2, [3, 64], b"\0" * 108), "n": (0, [5], b"\0" * 20)}))
        found = self.look("a.gguf", "GGUF model")
        self.check_row(found["items"]["t.weight"], shape=[3, 64], format="Q4_0", weights=192, bytes=108)
        self.check_row(found["items"]["n"], shape=[5], format="F32", bytes=20)
        self.assertIn({"key": "llama.block_count", "value": "7"}, found["metadata"])
        self.write("b.gguf", gguf_bytes({"general.type": "adapter"}, {
            "t.weight.lora_a": (0, [2, 9], b"\0" * 72), "t.weight.lora_b": (1, [5, 2], b"\0" * 20)}))
        found = self.look("b.gguf", "GGUF adapter")
        self.check_row(found["items"]["t.weight"], shape=[5, 9], rank=2, factors="F16, F32", weights=28, bytes=92)

    def test_importance_matrices(self):
        ones = struct.pack("<4f", 1, 1, 1, 1)
        self.write("a.gguf", gguf_bytes({"general.type": "imatrix"}, {
            "t.weight.in_sum2": (0, [1, 4], ones), "t.weight.counts": (0, [1, 1], struct.pack("<f", 12)),
            "u.weight.in_sum2": (0, [1, 4], ones), "u.weight.counts": (0, [1, 1], struct.pack("<f", 0))}))
        found = self.look("a.gguf", "GGUF importance matrix")
        self.check_row(found["items"]["t.weight"], shape=[1, 4], note="count 12", weights=0)
        self.assertTrue(found["items"]["u.weight"]["note"].startswith("unusable: "))
        self.write("a.dat", struct.pack("<ii", 1, 3) + b"abc" + struct.pack("<ii", 2, 4) + ones)
        self.check_row(self.look("a.dat", "importance matrix")["items"]["abc"], shape=[1, 4], note="count 2")

    def test_npy(self):
        content = npy_bytes(random_matrix(3, 4), fortran=True)
        self.write("a.npy", content)
        found = self.look("a.npy", ".npy array")
        self.check_row(found["items"][""], shape=[3, 4], format="<f4", weights=12, bytes=48,
                       note="columns one after the other")
