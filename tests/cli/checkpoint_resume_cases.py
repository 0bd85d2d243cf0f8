# SPDX-FileCopyrightText: 2026 The qlr authors
# SPDX-License-Identifier: MIT
"""compress_checkpoint that is killed, runs out of space or is started twice."""

import os
import pathlib
import random
import shutil
import subprocess
import tempfile
import unittest

import support
from checkpoint_support import REPORT, WORK, CheckpointTest, outputs, write_llama

OPTIONS = ["--method", "loftq", "--rank", "8", "--threads", "1", "--quiet"]


class KillTest(CheckpointTest):
    def test_killed_at_random_moments(self):
        write_llama(self.folder / "in", layers=3, hidden=128, inner=192, kv=64, shards=3, seed=2)
        seconds = self.seconds_of("in", "whole", *OPTIONS)
        expected = outputs(self.folder / "whole")
        source, num_killed, num_partial = random.Random(7), 0, 0
        while num_killed < 50:
            output = f"out{num_killed}"
            # Mostly one kill, sometimes several of one run.
            for _ in range(source.choice([1, 1, 2, 3])):
                if self.kill_after(source.uniform(0, seconds), "in", output, *OPTIONS, "--resume"):
                    num_killed += 1
                    num_partial += any((self.folder / output).glob(f"{WORK}/*.base.safetensors"))
            self.run_ok("in", output, *OPTIONS, "--resume")
            self.assertEqual(outputs(self.folder / output), expected)
            shutil.rmtree(self.folder / output)
        self.assertGreater(num_partial, 5)  # some kills came while there was finished work

    def test_finished_work_is_not_done_again(self):
        self.run_ok("in", "out", *OPTIONS)
        expected = outputs(self.folder / "out")
        self.interrupt()
        parts = sorted((self.folder / "half" / WORK).glob("*.base.safetensors"))
        times = {path.name: path.stat().st_mtime_ns for path in parts}
        self.assertTrue(parts)
        self.refuse_to_finish()
        for path in parts:
            self.assertEqual(path.stat().st_mtime_ns, times[path.name])
        self.run_ok("in", "half", *OPTIONS, "--resume")
        self.assertEqual(outputs(self.folder / "half"), expected)

    def interrupt(self):
        """A run in `half` that ends after some tensors: one tensor of the second shard is not finite."""
        good = (self.folder / "in" / "model-00002-of-00002.safetensors").read_bytes()
        self.good = good
        broken = bytearray(good)
        broken[-2:] = b"\xc0\x7f"  # a NaN, in the data alone: names and places are those of the good file
        (self.folder / "in" / "model-00002-of-00002.safetensors").write_bytes(broken)
        done = self.run_program("in", "half", *OPTIONS)
        self.assertEqual(done.returncode, 2)
        self.assertIn(b"tensor '", done.stderr)

    def refuse_to_finish(self):
        done = self.run_program("in", "half", *OPTIONS, "--resume")
        self.assertEqual(done.returncode, 2)
        (self.folder / "in" / "model-00002-of-00002.safetensors").write_bytes(self.good)

    def test_damaged_parts_and_a_torn_journal(self):
        self.run_ok("in", "out", *OPTIONS)
        expected = outputs(self.folder / "out")
        self.interrupt()
        parts = sorted((self.folder / "half" / WORK).glob("*.base.safetensors"))
        content = bytearray(parts[0].read_bytes())
        content[-1] ^= 1
        parts[0].write_bytes(content)
        parts[1].unlink()
        with open(self.folder / "half" / WORK / "journal-0.jsonl", "ab") as journal:
            journal.write(b'\n{"tensor": "model.lay')
        (self.folder / "in" / "model-00002-of-00002.safetensors").write_bytes(self.good)
        self.run_ok("in", "half", *OPTIONS, "--resume")
        self.assertEqual(outputs(self.folder / "half"), expected)

    def test_a_finished_run_is_left_alone(self):
        self.run_ok("in", "out", *OPTIONS)
        before = self.listing()
        self.assertIn("is complete", self.run_ok("in", "out", *OPTIONS[:-1], "--resume"))
        self.assertEqual(self.listing(), before)
        self.check_refused(["in", "out", *OPTIONS], "not empty", "--resume")
        self.check_refused(["in", "out", *OPTIONS, "--resume", "--seed", "4"], "seed is 4")

    def test_other_options_or_another_input(self):
        self.interrupt()
        self.check_refused(["in", "half", *OPTIONS, "--resume", "--group-size", "32"], "group_size is 32", "null")
        write_llama(self.folder / "in", hidden=128)
        self.check_refused(["in", "half", *OPTIONS, "--resume"], "input is")


class DiskTest(CheckpointTest):
    def test_full_disk(self):
        folder = self.folder / "small"
        folder.mkdir()
        done = subprocess.run(["mount", "-t", "tmpfs", "-o", "size=48k", "tmpfs", str(folder)], capture_output=True)
        if done.returncode != 0:
            self.skipTest("a file system of its own cannot be mounted here")
        try:
            done = self.run_program("in", "small/out", *OPTIONS)
            self.assertEqual(done.returncode, 2)
            self.assertIn(b"No space left", done.stderr)
            self.assertIn(b"tensor 'model.layers.", done.stderr)
            self.assertEqual(done.stderr.count(b"\n"), 1)
            self.assertTrue(list(folder.glob(f"out/{WORK}/*.base.safetensors")), "nothing was finished")
            subprocess.run(["mount", "-o", "remount,size=4m", str(folder)], check=True)
            self.run_ok("in", "small/out", *OPTIONS, "--resume")
            self.run_ok("in", "out", *OPTIONS)
            self.assertEqual(outputs(folder / "out"), outputs(self.folder / "out"))
        finally:
            subprocess.run(["umount", str(folder)], check=True)

    def test_read_only_file_system(self):
        folder = self.folder / "sealed"
        folder.mkdir()
        done = subprocess.run(["mount", "-t", "tmpfs", "-o", "ro", "tmpfs", str(folder)], capture_output=True)
        if done.returncode != 0:
            self.skipTest("a file system of its own cannot be mounted here")
        try:
            self.check_refused(["in", "sealed/out", *OPTIONS], "sealed/out", "Read-only")
        finally:
            subprocess.run(["umount", str(folder)], check=True)

    def test_folders_that_cannot_be_written(self):
        self.check_refused(["in", "/proc/nowhere", *OPTIONS], "/proc/nowhere")
        self.write("file", b"")
        self.check_refused(["in", "file", *OPTIONS], "not a folder")
        self.check_refused(["in", "in", *OPTIONS], "must not be the input")
        self.check_refused(["in", "in/out", *OPTIONS], "must not be the input")
        if os.geteuid() != 0:  # nothing is read-only for root
            os.chmod(self.folder, 0o555)
            self.check_refused(["in", "out", *OPTIONS], "cannot")
            os.chmod(self.folder, 0o755)

    def test_the_input_is_not_written(self):
        before = {path: path.stat().st_mtime_ns for path in (self.folder / "in").rglob("*")}
        listing = outputs(self.folder / "in")
        self.run_ok("in", "out", *OPTIONS)
        self.assertEqual(outputs(self.folder / "in"), listing)
        self.assertEqual({path: path.stat().st_mtime_ns for path in (self.folder / "in").rglob("*")}, before)
