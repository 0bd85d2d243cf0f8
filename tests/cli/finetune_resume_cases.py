# SPDX-FileCopyrightText: 2026 The qlr authors
# SPDX-License-Identifier: MIT
"""finetune_story that is killed and goes on, and that stops where numbers are no longer finite."""

import math
import random
import shutil
import struct
import subprocess
import time

import support
from finetune_support import SHORT, FinetuneTest, losses

OPTIONS = ["--methods", "full,best,loqt,lr-qat,lrq", "--bits", "2", *SHORT, "--state", "state", "--save-every", 1]


class ResumeTest(FinetuneTest):
    def start(self) -> subprocess.Popen:
        command = [support.BINARY, *map(str, [*self.model, *OPTIONS, "--quiet"])]
        return subprocess.Popen(command, cwd=self.folder, stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL)

    def kill_after(self, seconds: float) -> bool:
        """Whether the run was killed before its end."""
        run = self.start()
        try:
            run.wait(seconds)
            return False
        except subprocess.TimeoutExpired:
            run.kill()
            run.wait()
            return True

    def test_killed_at_random_moments(self):
        begin = time.monotonic()
        expected = losses(self.train(*OPTIONS))
        seconds = time.monotonic() - begin
        states = {path.name: path.read_bytes() for path in (self.folder / "state").iterdir()}
        self.assertEqual(len(states), 5)
        source, num_killed, num_partial = random.Random(3), 0, 0
        for _ in range(6):
            shutil.rmtree(self.folder / "state")
            for _ in range(2):
                num_killed += self.kill_after(source.uniform(0.2, 1.0) * seconds)
            num_partial += any((self.folder / "state").glob("*.safetensors"))
            self.assertEqual(losses(self.train(*OPTIONS)), expected)
            for name, content in states.items():
                self.assertEqual((self.folder / "state" / name).read_bytes(), content, name)
        self.assertGreater(num_killed, 3)
        self.assertGreater(num_partial, 1)  # some kills came while there were states to go on from

    def test_other_options_are_another_experiment(self):
        self.train(*OPTIONS)
        self.check_refused([*self.model, *OPTIONS, "--learning-rate-factor", 2], "state/", "another experiment")
        self.check_refused([*self.model, *OPTIONS, "--rank", 4], "state/", "another experiment")

    def test_a_broken_state_is_refused(self):
        self.train(*OPTIONS)
        path = self.folder / "state" / "loqt-2-1.safetensors"
        path.write_bytes(path.read_bytes()[:-8])
        self.check_refused([*self.model, *OPTIONS], "loqt, 2 bits, seed 1", "loqt-2-1.safetensors")

    def test_a_state_folder_that_cannot_be_made(self):
        self.write("state", b"a file")
        self.check_refused([*self.model, *OPTIONS], "state")

    def test_a_loss_that_is_not_finite_stops_with_step_and_parameter(self):
        num_states, errors = 0, []
        for method in ("full", "best", "loqt", "lr-qat", "lrq"):
            done = self.run_program(*self.model, "--methods", method, "--bits", "3", *SHORT, "--learning-rate-factor",
                                    "1e36", "--state", "nan", "--save-every", 1)
            error = done.stderr.decode()
            errors.append(error)
            with self.subTest(method=method, error=error):
                self.assertEqual(done.returncode, 2)
                self.assertEqual(error.count("\n"), 1)
                self.assertRegex(error, r"seed 1: step \d+: ")
                self.assertRegex(error, r"model\.layers\.\d\.(self_attn|mlp)\.\w+_proj\.\w+\(\d+, \d+\) is ")
            for path in (self.folder / "nan").glob(f"{method}*"):  # states before that step stay
                for name, (dtype, shape, content) in support.read_safetensors(path)[1].items():
                    if dtype in ("F32", "F64"):
                        numbers = struct.unpack(f"<{math.prod(shape)}{support.FLOAT_FORMATS[dtype]}", content)
                        self.assertTrue(all(map(math.isfinite, numbers)), (path, name))
                num_states += 1
        self.assertGreater(num_states, 0)
        self.assertIn("the loss is", errors[-1])  # before the update; some of the others are found behind it
