# SPDX-FileCopyrightText: 2026 The qlr authors
# SPDX-License-Identifier: MIT
"""Bad input to story: exit code 2, one line on standard error, and no file left behind."""

import struct

from story_support import PIECES, TinyStoryTest, tokenizer_bytes


class ArgumentTest(TinyStoryTest):
    def refuse(self, options: list, *parts: str):
        self.check_refused([*self.FILES, "--rank", "2", "--json", "j.json", *options], *parts)

    def test_names_that_are_unknown(self):
        self.refuse(["--method", "nope"], "method is 'nope'", "none, qlora", "best")
        self.refuse(["--quantizer", "nf5"], "quantizer is 'nf5'", "nf4")
        self.refuse(["--precision", "fp8"], "precision is 'fp8'", "exact, bf16, int8")
        self.refuse(["--isa", "sse9"], "instruction set is 'sse9'", "scalar, avx2")
        self.refuse(["--bogus"], "--bogus")

    def test_numbers_out_of_range(self):
        self.refuse(["--temperature", "-1"], "temperature is -1")
        self.refuse(["--temperature", "nan"], "temperature is nan")
        self.refuse(["--temperature", "x"], "--temperature", "x")
        self.refuse(["--tokens", "-1"], "tokens is -1")
        self.refuse(["--tokens", "97"], "tokens is 97", "0 to 96")
        self.refuse(["--seed", "-1"], "seed is -1")
        self.refuse(["--threads", "-1"], "threads is -1")
        self.refuse(["--method", "none", "--threads", "1025"], "threads is 1025")
        self.refuse(["--group-size", "17"], "model.layers.0.self_attn.q_proj.weight", "group_size is 17", "1 to 16")
        self.check_refused([*self.FILES, "--rank", "9", "--json", "j.json"], "self_attn.k_proj", "rank is 9", "0 to 8")

    def test_a_prompt_that_the_context_cannot_hold(self):
        self.refuse(["--prompt", "j" * 95], "prompt has 95 bytes", "96")
        self.refuse(["--prompt", "j" * 100000], "prompt has 100000 bytes")
        self.refuse(["--prompt", ""], "--prompt", "empty")
        self.refuse(["--prompt", "j" * 94, "--tokens", "2"], "tokens is 2", "0 to 1", "the prompt has 96")

    def test_what_is_missing(self):
        self.check_refused(["m.safetensors"], "--tokenizer")
        self.check_refused(["--tokenizer", "t.bin"], "MODEL")
        self.check_refused(["none.safetensors", "--tokenizer", "t.bin"], "none.safetensors", "No such file")
        self.check_refused(["m.safetensors", "--tokenizer", "none.bin"], "none.bin", "No such file")
        self.check_refused([*self.FILES, "--rank", "2", "--json", "no/j.json"], "cannot write", "no/j.json")


class TokenizerFileTest(TinyStoryTest):
    def refuse(self, content: bytes, *parts: str):
        self.write("t.bin", content)
        self.check_refused([*self.FILES, "--rank", "2", "--json", "j.json"], "'t.bin'", *parts)

    def test_files_that_are_cut_or_too_long(self):
        good = tokenizer_bytes()
        for size in range(0, len(good), 7):
            self.refuse(good[:size], f"ends at byte {size}")
        self.refuse(good[:-1], f"ends at byte {len(good) - 1}")
        self.refuse(good + b"\0", f"1 bytes follow the {len(PIECES)} tokens")

    def test_lengths_and_scores_that_are_impossible(self):
        good = tokenizer_bytes()
        for length in (-1, -2**31, 8, 2**31 - 1):
            self.refuse(good[:8] + struct.pack("<i", length) + good[12:], f"token 0 has {length} bytes", "0 to 7")
        for longest in (0, -1, -2**31):
            self.refuse(struct.pack("<i", longest) + good[4:], f"longest token has {longest} bytes")
        for score in ("nan", "inf", "-inf"):
            self.refuse(good[:4] + struct.pack("<f", float(score)) + good[8:], "score of token 0 is not finite")


class ModelFileTest(TinyStoryTest):
    def refuse(self, content: bytes, *parts: str):
        self.write("m.safetensors", content)
        self.check_refused([*self.FILES, "--rank", "2", "--json", "j.json"], *parts)

    def test_configurations_that_are_missing_or_wrong(self):
        self.refuse(self.model.file(config_text="{"), "'m.safetensors'", "'config' is not a JSON object")
        self.refuse(self.model.file(config_text="[" * 100000), "'config' is not a JSON object")
        for key in ("dim", "hidden_dim", "n_layers", "n_heads", "n_kv_heads", "vocab_size", "max_seq_len"):
            self.refuse(self.model.file(config={key: None}), f"no '{key}'")
            for value in (0, -1, 2**31, 2**64, 1.5, "x", [1]):
                self.refuse(self.model.file(config={key: value}), f"config {key} is", "allowed are 1 to")
        self.refuse(self.model.file(config={"n_heads": 16}), "dim is 16", "multiple of twice n_heads")
        self.refuse(self.model.file(config={"n_kv_heads": 3}), "n_heads is 4", "n_kv_heads, which is 3")
        self.refuse(self.model.file(config={"rms_norm_eps": 0}), "rms_norm_eps is 0")
        self.refuse(self.model.file(config={"rope_theta": "x"}), "rope_theta is")
        self.refuse(self.model.file(config={"rope": "rotated halves"}), "rope is 'rotated halves'", "interleaved")
        self.refuse(self.model.file(config={"tie_word_embeddings": 1}), "tie_word_embeddings is 1")

    def test_tensors_that_are_missing_or_of_another_shape(self):
        down = "model.layers.1.mlp.down_proj.weight"
        self.refuse(self.model.file(without=down), f"'{down}'")
        self.refuse(self.model.file(without="lm_head.weight"), "'lm_head.weight'")
        self.refuse(self.model.file(config={"n_layers": 2000000000}), "'model.layers.2.input_layernorm.weight'")
        self.refuse(self.model.file(config={"hidden_dim": 25}), "gate_proj", "25 x 16")
        self.refuse(self.model.file(config={"vocab_size": 2**31 - 1}), "embed_tokens", "2147483647 x 16")

    def test_numbers_that_are_not_finite_and_files_that_are_cut(self):
        good = self.model.file()
        for size in (0, 8, 100, len(good) - 1):
            self.refuse(good[:size], "m.safetensors")
        self.model.weights["model.norm.weight"][0][3] = float("nan")
        self.refuse(self.model.file(), "model.norm.weight(0, 3)", "nan")
        self.model.weights["model.norm.weight"][0][3] = 1.0
        self.model.weights["model.layers.1.mlp.up_proj.weight"][2][5] = float("inf")
        self.refuse(self.model.file(), "up_proj.weight(2, 5)", "inf")

    def test_a_context_that_no_machine_holds_is_no_problem_for_a_short_text(self):
        self.write("m.safetensors", self.model.file(config={"max_seq_len": 2**31 - 1}))
        self.assertEqual(self.run_json(*self.FILES, "--method", "none", "--tokens", 5)["prompt_tokens"], 1)
