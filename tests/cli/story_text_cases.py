# SPDX-FileCopyrightText: 2026 The qlr authors
# SPDX-License-Identifier: MIT
"""What the trained model tells: the known beginning, the same on any threads and instruction sets, by seed."""

from story_support import RealStoryTest

BEGINNING = ("Once upon a time, there was a little girl named Lily. She loved to play outside in the park. One day, she "
             "saw a big, red ball. She wanted to play with it, but it was too high.")
COMPRESSED = ["--method", "best", "--quantizer", "nf4", "--rank", 4, "--tokens", 120]


class TextTest(RealStoryTest):
    def test_greedy_text_of_fp32_weights_begins_as_known(self):
        found = self.report("--method", "none", "--temperature", 0, "--tokens", 100)
        self.assertTrue(found["text"].startswith(BEGINNING), found["text"])
        self.assertEqual(found["tokens"], 100)

    def test_8_bits_tell_the_same_for_sixty_tokens(self):
        options = ["--tokens", 60]
        fp32 = self.report("--method", "none", *options)["text"]
        self.assertEqual(self.report("--method", "best", "--quantizer", "int8", *options)["text"], fp32)

    def test_a_prompt_is_continued_as_if_the_model_had_written_it(self):
        text = self.report("--method", "none", "--tokens", 150)["text"]
        prompt = text[:text.index("One day")].rstrip()
        found = self.report("--method", "none", "--tokens", 60, "--prompt", prompt)
        self.assertEqual(found["text"], text[:len(found["text"])])
        self.assertGreater(len(found["text"]), len(prompt) + 60)

    def test_threads_and_instruction_sets_do_not_change_the_text(self):
        expected = self.report(*COMPRESSED)["text"]
        self.assertEqual(self.report(*COMPRESSED, "--threads", 1)["text"], expected)
        self.assertEqual(self.report(*COMPRESSED, "--threads", 5)["text"], expected)
        num_run = 0
        for name in ("scalar", "avx2", "avx512", "avx512_vnni"):
            done = self.run_program(*self.files, *COMPRESSED, "--isa", name, "--quiet")
            if b"not available" in done.stderr:
                continue
            num_run += 1
            self.assertEqual((done.returncode, done.stdout.decode()), (0, expected + "\n"), name)
        self.assertGreaterEqual(num_run, 1)

    def test_samples_depend_on_the_seed_and_the_temperature(self):
        def sample(seed, temperature):
            return self.report(*COMPRESSED, "--seed", seed, "--temperature", temperature)["text"]
        first = sample(1, 1)
        self.assertEqual(sample(1, 1), first)
        self.assertNotEqual(sample(2, 1), first)
        greedy = self.report(*COMPRESSED, "--seed", 1)["text"]
        self.assertNotEqual(first, greedy)
        self.assertEqual(sample(1, 1e-9), greedy)

    def test_characters_outside_the_vocabulary_become_bytes(self):
        found = self.report("--method", "none", "--tokens", 0, "--prompt", "Zo\u00eb \U0001f600!")
        self.assertEqual(found["text"], "Zo\u00eb \U0001f600!")
        self.assertEqual((found["tokens"], found["tokens_per_second"]), (0, None))

    def test_output_with_and_without_quiet_and_with_a_file(self):
        loud = self.run_ok(*self.files, *COMPRESSED)
        quiet = self.run_ok(*self.files, *COMPRESSED, "--quiet", "--json", "j.json")
        self.assertIn(quiet, loud)
        self.assertIn("tokens per second", loud)
        self.assertIn("best, nf4, rank 4", loud)
        self.assertEqual(list(self.listing()), ["j.json"])
