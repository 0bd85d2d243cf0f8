# SPDX-FileCopyrightText: 2026 The qlr authors
# SPDX-License-Identifier: MIT
"""The table that inspect prints, and which rows of it."""

import json

from packed_support import PackedWeight, checkpoint_file, safetensors_file
from support import CommandLineTest, random_matrix, tensor


class TableTest(CommandLineTest):
    def setUp(self):
        super().setUp()
        self.write("a.safetensors", safetensors_file(
            {"layer.10.w": tensor(random_matrix(2, 8)), "layer.9.w": tensor(random_matrix(4, 8)),
             "embed": tensor(random_matrix(1, 8))}, {"note": "x" * 200}))

    def names(self, *options) -> list:
        return [row["name"] for row in self.run_json("a.safetensors", *options)["items"]]

    def rows(self, *options) -> list:
        """The table's lines without its title, as lists of words."""
        lines = self.run_ok("a.safetensors", *options).split("\n\n")[1].splitlines()
        self.assertTrue(lines[0].startswith("name"))
        return [line.split() for line in lines[1:]]

    def test_order(self):
        self.assertEqual(self.names(), ["layer.10.w", "layer.9.w", "embed"])
        self.assertEqual(self.names("--sort", "name"), ["embed", "layer.10.w", "layer.9.w"])
        self.assertEqual(self.names("--sort", "bytes"), ["layer.9.w", "layer.10.w", "embed"])

    def test_names(self):
        self.assertEqual(self.names("--names", "layer"), ["layer.10.w", "layer.9.w"])
        self.assertEqual(self.names("--names", r"\.9\."), ["layer.9.w"])
        self.assertEqual(self.names("--names", "^e|10"), ["layer.10.w", "embed"])
        found = self.run_json("a.safetensors", "--names", "nothing")
        self.assertEqual((found["items"], found["total"]["rows"], found["total"]["bits_per_weight"]), ([], 0, None))
        self.assertIn("all", self.run_ok("a.safetensors", "--names", "nothing"))
        found = self.run_json("a.safetensors", "--names", "layer")
        self.assertEqual((found["total"]["rows"], found["total"]["bytes"]), (2, 192))

    def test_names_that_are_long(self):
        long = "a" * 4096
        self.write("a.safetensors", safetensors_file({long: tensor([[1.0]]), long * 100: tensor([[1.0]])}, {}))
        self.assertEqual(self.names("--names", "(a|b)*$"), [long])

    def test_limit(self):
        self.assertEqual([row[0] for row in self.rows("--limit", 2)], ["layer.10.w", "layer.9.w", "..."])
        self.assertEqual(self.rows("--limit", 2)[2], ["...", "1", "more"])
        self.assertEqual(len(self.rows("--limit", 3)), 3)
        self.assertEqual(len(self.rows("--limit", 0)), 3)
        self.assertIn("all           3: 56 numbers in 224 bytes, 32.000 bits each",
                      self.run_ok("a.safetensors", "--limit", 1))
        self.assertEqual(len(self.names("--limit", 1)), 3)  # the report has all

    def test_columns_that_apply(self):
        self.assertEqual(self.rows()[1], ["layer.9.w", "4x8", "F32", "32.000", "128"])
        self.write("a.safetensors", checkpoint_file({"n": tensor(random_matrix(1, 8))},
                                                    {"w": PackedWeight(random_matrix(4, 8), 4)}))
        out = self.run_ok("a.safetensors")
        self.assertIn(["w", "4x8", "python", "row", "fp32", "0", "fp32", "8.000", "32", "scale", "0.5"], self.rows())
        self.assertIn("compressed    1: 32 numbers in 32 bytes, 8.000 bits each", out)
        self.assertIn("as they are   1: 8 numbers in 32 bytes, 32.000 bits each", out)
        self.assertIn("all           2: 40 numbers in 64 bytes, 12.800 bits each", out)

    def test_long_texts_are_cut_where_they_are_printed(self):
        self.assertIn("  note = " + "x" * 100 + "...\n", self.run_ok("a.safetensors"))
        self.assertEqual(self.run_json("a.safetensors")["metadata"], [{"key": "note", "value": "x" * 200}])

    def test_names_that_could_steer_a_terminal(self):
        self.write("a.safetensors", safetensors_file({"a\x1b[2J\n": tensor([[1.0]])}, {"k\n": "v\r"}))
        out = self.run_ok("a.safetensors")
        self.assertIn("a\\x1b[2J\\x0a", out)
        self.assertIn("k\\x0a = v\\x0d\n", out)

    def test_json_into_a_file(self):
        out = self.run_ok("a.safetensors", "--json", "j.json")
        self.assertIn("layer.9.w", out)
        report = json.loads((self.folder / "j.json").read_bytes())
        self.assertEqual(report["path"], "a.safetensors")
        self.assertTrue(report["qlr_version"])
        self.assertEqual(self.run_ok("a.safetensors", "--quiet"), "")
