# SPDX-FileCopyrightText: 2026 The qlr authors
# SPDX-License-Identifier: MIT
"""What compress_checkpoint reads, chooses and refuses."""

import json
import struct

from checkpoint_support import CheckpointTest, Numbers, read_all
from support import random_matrix, safetensors_bytes, tensor

OPTIONS = ["--method", "qlora", "--rank", "0", "--quiet"]
MLP = "model.layers.1.mlp.down_proj.weight"


class SelectionTest(CheckpointTest):
    def names(self, *options) -> list:
        return [entry["name"] for entry in self.compress("--method", "qlora", "--rank", "0", *options)["tensors"]]

    def test_linear_layers_are_found(self):
        report = self.compress(*OPTIONS)
        expected = sorted(name for name in self.shapes if "proj" in name)
        self.assertEqual([entry["name"] for entry in report["tensors"]], expected)
        reasons = {entry["name"]: entry["reason"] for entry in report["kept"]}
        self.assertEqual(sorted(reasons), sorted(set(self.shapes) - set(expected)))
        self.assertIn("embedding", reasons["model.embed_tokens.weight"])
        self.assertIn("head", reasons["lm_head.weight"])
        self.assertIn("1 dimensions", reasons["model.norm.weight"])
        _, before = read_all(self.folder / "in")
        _, after = read_all(self.folder / "out")
        for name in reasons:
            self.assertEqual(after[name], before[name])

    def test_include_and_exclude(self):
        self.assertEqual(self.names("--include", "lm_head|layers\\.1\\.mlp\\.d"), ["lm_head.weight", MLP])
        self.folder.joinpath("out").rename(self.folder / "first")
        names = self.names("--exclude", "mlp", "--exclude", "layers\\.0\\.")
        self.assertEqual(names, [f"model.layers.1.self_attn.{part}_proj.weight" for part in "koqv"])

    def test_patterns_are_checked(self):
        self.check_refused(["in", "out", "--include", "("], "include is '('")
        self.check_refused(["in", "out", "--include", "absent"], "include is 'absent'", "matches no tensor")
        self.check_refused(["in", "out", "--exclude", "absent"], "exclude is 'absent'")
        self.check_refused(["in", "out", "--include", "norm"], "nothing to compress")

    def test_list(self):
        text = self.run_ok("in", "out", "--list")
        self.assertIn("model.layers.0.mlp.up_proj.weight", text)
        self.assertIn("kept: it is an embedding or a head", text)
        self.assertFalse((self.folder / "out").exists())


class OddInputTest(CheckpointTest):
    def write_one(self, tensors: dict, header: str = None):
        (self.folder / "one").mkdir()
        self.write("one/model.safetensors", safetensors_bytes(tensors, header))

    def test_awkward_shapes(self):
        wide = ("BF16", [1, 100000], Numbers(3).matrix(1, 100000))
        self.write_one({"wide.weight": wide, "tall.weight": tensor(random_matrix(300, 1)), "one.weight": tensor([[0.5]]),
                        "zeros.weight": tensor([[0.0] * 70] * 3), "empty.weight": ("F32", [0, 7], b""),
                        "scalar": ("F32", [], struct.pack("<f", 1.0)), "ints": ("I64", [2], struct.pack("<2q", 1, 2)),
                        "cube.weight": ("F32", [2, 2, 2], struct.pack("<8f", *range(8)))})
        report = json.loads(self.run_ok("one", "out", "--rank", "3", "--json", "-"))
        ranks = {entry["name"]: entry["rank"] for entry in report["tensors"]}  # what is exact needs no L R
        self.assertEqual(ranks, {"one.weight": 0, "tall.weight": 1, "wide.weight": 1, "zeros.weight": 0})
        kept = {entry["name"]: entry["reason"] for entry in report["kept"]}
        self.assertEqual(sorted(kept), ["cube.weight", "empty.weight", "ints", "scalar"])
        self.assertIn("empty", kept["empty.weight"])

    def test_not_finite(self):
        bad = random_matrix(4, 64)
        bad[2][5] = float("inf")
        self.write_one({"a.weight": tensor(random_matrix(4, 64)), "b.weight": tensor(bad)})
        done = self.run_program("one", "out", *OPTIONS)
        self.assertEqual(done.returncode, 2)
        self.assertIn(b"tensor 'b.weight'", done.stderr)
        self.assertIn(b"(2, 5)", done.stderr)

    def test_unknown_type(self):
        self.write_one({}, json.dumps({"a.weight": {"dtype": "F32", "shape": [1, 1], "data_offsets": [0, 4]},
                                       "b": {"dtype": "F6", "shape": [4], "data_offsets": [4, 8]}}))
        path = self.folder / "one" / "model.safetensors"
        path.write_bytes(path.read_bytes() + bytes(8))
        self.check_refused(["one", "out", *OPTIONS], "tensor 'b'", "F6")

    def test_truncated(self):
        path = self.folder / "in" / "model-00002-of-00002.safetensors"
        path.write_bytes(path.read_bytes()[:-100])
        self.check_refused(["in", "out", *OPTIONS], "model-00002-of-00002.safetensors")

    def test_duplicate_names(self):
        entry = '"a.weight": {"dtype": "F32", "shape": [1, 1], "data_offsets": [0, 4]}'
        self.write_one({}, "{" + entry + ", " + entry + "}")
        path = self.folder / "one" / "model.safetensors"
        path.write_bytes(path.read_bytes() + bytes(4))
        self.check_refused(["one", "out", *OPTIONS], "a.weight", "twice")

    def test_the_same_tensor_in_two_shards(self):
        first = self.folder / "in" / "model-00001-of-00002.safetensors"
        (self.folder / "in" / "model-00002-of-00002.safetensors").write_bytes(first.read_bytes())
        self.check_refused(["in", "out", *OPTIONS])

    def test_missing_shard_and_index(self):
        (self.folder / "in" / "model-00002-of-00002.safetensors").unlink()
        self.check_refused(["in", "out", *OPTIONS], "model-00002-of-00002.safetensors")
        (self.folder / "in" / "model.safetensors.index.json").write_text("{")
        self.check_refused(["in", "out", *OPTIONS], "JSON")
        self.check_refused(["nowhere", "out", *OPTIONS], "nowhere")

    def test_options(self):
        for options, parts in ((["--store", "onnx"], ["store is 'onnx'", "bitsandbytes"]),
                               (["--store", "bitsandbytes", "--quantizer", "int4"], ["quantizer is 'int4'", "nf4"]),
                               (["--store", "gguf", "--quantizer", "nf4"], ["q4_0"]), (["--rank", "-1"], ["rank is -1"]),
                               (["--spectrum", "-1"], ["spectrum is -1"]), (["--quantizer", "x"], ["quantizer is 'x'"]),
                               (["--plan", "p.json", "--rank", "3"], ["--plan"]),
                               (["--plan", "p.json"], ["p.json"]), (["--calibration", "nowhere"], ["nowhere"])):
            with self.subTest(options=options):
                self.check_refused(["in", "out", *options], *parts)
