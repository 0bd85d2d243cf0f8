# SPDX-FileCopyrightText: 2026 The qlr authors
# SPDX-License-Identifier: MIT
"""Models of other shapes and element types tell what the same model in plain Python tells."""

from story_support import PIECES, TinyModel, TinyStoryTest, tokenizer_bytes

AB = [1, PIECES.index(" "), PIECES.index("ab")]  # what the prompt "ab" becomes


class ModelTest(TinyStoryTest):
    def check_greedy(self, model: TinyModel, content: bytes, prompt: str, prompt_tokens: list, count: int = 20):
        self.write("m.safetensors", content)
        expected = model.greedy(prompt_tokens, count)
        found = self.run_json(*self.FILES, "--method", "none", "--tokens", count, "--prompt", prompt)
        self.assertEqual(found["prompt_tokens"], len(prompt_tokens))
        # A space that begins the text is not part of it.
        text = "".join(PIECES[t] for t in prompt_tokens[1:] + expected)
        self.assertEqual(found["text"], text[1:] if text.startswith(" ") else text)
        self.assertEqual(found["tokens"], len(expected))
        self.assertGreater(len(expected), 3)

    def test_greedy_text_is_that_of_plain_python(self):
        for options in ({}, {"heads": 2, "kv_heads": 1, "seed": 2}, {"heads": 4, "kv_heads": 4, "layers": 1, "hidden": 37},
                        {"tied": True, "seed": 7}):
            model = TinyModel(**options)
            with self.subTest(options=options):
                self.check_greedy(model, model.file(), "ab", AB)

    def test_16_bit_tensors(self):
        for dtype in ("BF16", "F16"):
            with self.subTest(dtype=dtype):
                self.check_greedy(self.model, self.model.file(dtype), "ab", AB)

    def test_a_prompt_longer_than_a_chunk(self):
        # 64 tokens pass together; "j" merges with nothing.
        for length in (62, 63, 64, 80):
            with self.subTest(length=length):
                tokens = [1, PIECES.index(" ")] + [PIECES.index("j")] * length
                self.check_greedy(self.model, self.model.file(), "j" * length, tokens, 10)


class TokenizerTest(TinyStoryTest):
    def prompt_tokens(self, prompt: str) -> int:
        found = self.run_json(*self.FILES, "--method", "none", "--tokens", 0, "--prompt", prompt)
        self.assertEqual(found["text"].encode(errors="replace").decode(), found["text"])
        return found["prompt_tokens"]

    def test_merges_the_pair_with_the_highest_score_first(self):
        # The begin of text and a space come first.
        self.assertEqual(self.prompt_tokens("abc"), 3)  # bc, then abc
        self.assertEqual(self.prompt_tokens("bcd"), 4)
        self.assertEqual(self.prompt_tokens("defgh"), 4)  # de, def, gh
        self.assertEqual(self.prompt_tokens("aad"), 4)  # " a", a, d: a is left of the other
        self.assertEqual(self.prompt_tokens("bcbcbc"), 5)
        self.assertEqual(self.prompt_tokens("abab"), 4)

    def test_unknown_characters_become_bytes_or_the_unknown_token(self):
        self.assertEqual(self.prompt_tokens("z"), 3)
        pieces = [*PIECES[:-2], "<0xC3>", "<0xBC>"]
        self.write("t.bin", tokenizer_bytes(pieces))
        found = self.run_json(*self.FILES, "--method", "none", "--tokens", 0, "--prompt", "a\u00fcb")
        self.assertEqual((found["prompt_tokens"], found["text"]), (5, "a\u00fcb"))
