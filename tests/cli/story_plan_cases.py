# SPDX-FileCopyrightText: 2026 The qlr authors
# SPDX-License-Identifier: MIT
"""story with a plan of allocate_bits: formats by layer, and plans that are refused."""

import json

from story_support import TinyStoryTest

KINDS = ("self_attn.q_proj", "self_attn.k_proj", "self_attn.v_proj", "self_attn.o_proj", "mlp.gate_proj", "mlp.up_proj",
         "mlp.down_proj")
CHOICE = {"quantizer": "nf4", "group_size": 8, "scale": "fp16", "rank": 0, "factor_bits": 16}


class StoryPlanTest(TinyStoryTest):
    def setUp(self):
        super().setUp()
        self.entries = []
        for block in range(2):
            for kind in KINDS:
                name = f"model.layers.{block}.{kind}.weight"
                rows = self.model.weights[name]
                self.entries.append({"name": name, "rows": len(rows), "cols": len(rows[0]), **CHOICE})

    def write_plan(self, entries=None):
        self.write("p.json", json.dumps({"tensors": self.entries if entries is None else entries}).encode())

    def report(self, *options) -> dict:
        return self.run_json(*self.FILES, "--tokens", 5, *options)

    def test_a_plan_of_equal_choices_is_the_same_model(self):
        self.write_plan()
        planned = self.report("--plan", "p.json")
        uniform = self.report("--quantizer", "nf4", "--group-size", 8, "--scale", "fp16", "--rank", 0)
        for key in ("packed_bytes", "relative_error", "text", "method"):
            self.assertEqual(planned[key], uniform[key], key)
        self.assertEqual((planned["plan"], uniform["plan"]), ("p.json", None))
        for key in ("quantizer", "group_size", "scale", "factor_bits", "rank"):
            self.assertIsNone(planned[key], key)

    def test_every_layer_has_the_bytes_of_its_choice(self):
        self.write_plan()
        before = self.report("--plan", "p.json")["packed_bytes"]
        entry = self.entries[4]  # gate_proj, 24 x 16
        entry.update(quantizer="int8", group_size=16, scale="fp32", rank=2, factor_bits=32)
        self.write_plan()
        after = self.report("--plan", "p.json", "--method", "loftq")["packed_bytes"]
        old, new = 24 * 16 // 2 + 24 * 2 * 2, 24 * 16 + 24 * 4 + 4 * 2 * (24 + 16)
        self.assertEqual(after - before, new - old)

    def test_sensitivities_name_every_layer(self):
        self.run_ok(*self.FILES, "--tokens", 0, "--quiet", "--method", "qlora", "--quantizer", "nf3", "--group-size", 8,
                    "--sensitivity", "s.json")
        found = json.loads((self.folder / "s.json").read_bytes())
        self.assertEqual(list(found), [e["name"] for e in self.entries])
        self.assertTrue(all(v > 0 for v in found.values()))

    def refuse(self, *parts: str, options: tuple = (), entries=None):
        self.write_plan(entries)
        self.check_refused([*self.FILES, "--plan", "p.json", "--json", "j.json", *options], *parts)

    def test_plans_that_do_not_fit_the_model(self):
        self.refuse("has no tensor 'model.layers.1.mlp.down_proj.weight'", entries=self.entries[:-1])
        extra = {**self.entries[0], "name": "model.embed_tokens.weight"}
        self.refuse("'model.embed_tokens.weight'", "--exclude", entries=[*self.entries, extra])
        self.refuse("is 17 x 16, the model has 16 x 16", entries=[{**self.entries[0], "rows": 17}, *self.entries[1:]])
        self.refuse("tensor 14", "second", entries=[*self.entries, self.entries[0]])

    def test_entries_that_are_wrong(self):
        for change, part in (({"quantizer": "nf5"}, "quantizer is 'nf5'"), ({"quantizer": 4}, "no text 'quantizer'"),
                             ({"group_size": "x"}, "no whole number 'group_size'"), ({"group_size": -2}, "group_size is -2"),
                             ({"group_size": 17}, "group_size is 17"), ({"scale": "fp9"}, "scale is 'fp9'"),
                             ({"rank": -1}, "rank is -1"), ({"rank": 17}, "rank is 17"), ({"rank": 2**64 - 1}, "rank is 1844"),
                             ({"rank": 1.5}, "no whole number 'rank'"), ({"factor_bits": 7}, "factor bits is 7"),
                             ({"rows": 0}, "rows is 0"), ({"name": None}, "no text 'name'")):
            self.refuse(part, entries=[{**self.entries[0], **change}, *self.entries[1:]])
        self.refuse("tensor 0", "not an object", entries=[1])

    def test_files_that_are_no_plan(self):
        for content, part in ((b"", "not a JSON object"), (b"[]", "not a JSON object"), (b"{}", "no list 'tensors'"),
                              (b'{"tensors": 1}', "no list 'tensors'"), (b"[" * 100000, "not a JSON object"),
                              (b"\xff\xfe", "not a JSON object")):
            self.write("p.json", content)
            self.check_refused([*self.FILES, "--plan", "p.json", "--json", "j.json"], "'p.json'", part)
        self.check_refused([*self.FILES, "--plan", "none.json"], "none.json")

    def test_options_that_the_plan_replaces(self):
        for option, value in (("--rank", 2), ("--quantizer", "nf4"), ("--group-size", 8), ("--scale", "fp16"),
                              ("--factor-bits", 16)):
            self.refuse("--plan", option, options=(option, value))
        self.refuse("method is 'none'", options=("--method", "none"))
