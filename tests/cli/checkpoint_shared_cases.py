# SPDX-FileCopyrightText: 2026 The qlr authors
# SPDX-License-Identifier: MIT
"""Threads, processes, memory and the report of compress_checkpoint."""

import json
import os
import shutil
import subprocess

import support
from checkpoint_page_cases import check_page
from checkpoint_support import PAGE, REPORT, CheckpointTest, outputs, read_all, write_llama
from support import safetensors_bytes

QUICK = ["--method", "qlora", "--rank", "0", "--quiet"]


def mpirun(processes: int) -> list:
    command = [shutil.which("mpirun"), "-n", str(processes), "--oversubscribe"]
    return command + (["--allow-run-as-root"] if os.geteuid() == 0 else [])


def has_mpi() -> bool:
    """Whether the program was built with MPI, and mpirun starts processes here (it may be forbidden to)."""
    libraries = subprocess.run(["ldd", support.BINARY], capture_output=True, text=True).stdout
    if shutil.which("mpirun") is None or "libmpi" not in libraries:
        return False
    return subprocess.run([*mpirun(2), "true"], capture_output=True, timeout=60).returncode == 0


class SharedWorkTest(CheckpointTest):
    def test_threads_do_not_matter(self):
        self.run_ok("in", "out", "--rank", "4", "--threads", "1", "--quiet")
        self.run_ok("in", "two", "--rank", "4", "--threads", "2", "--quiet")
        self.assertEqual(outputs(self.folder / "two"), outputs(self.folder / "out"))

    def test_one_file(self):
        self.run_ok("in", "out", *QUICK)
        self.run_ok("in", "one", *QUICK, "--one-file")
        self.assertFalse((self.folder / "one" / "model.safetensors.index.json").exists())
        self.assertEqual(read_all(self.folder / "one"), read_all(self.folder / "out"))
        index = json.loads((self.folder / "out" / "model.safetensors.index.json").read_text())
        _, tensors = read_all(self.folder / "out")
        self.assertEqual(sorted(index["weight_map"]), sorted(tensors))
        self.assertEqual(index["metadata"]["total_size"], sum(len(entry[2]) for entry in tensors.values()))

    def test_memory_does_not_grow_with_the_checkpoint(self):
        size, count = 1024, 64  # 128 MB of bf16, matrices of 4 MB in float32
        (self.folder / "large").mkdir()
        entries = {f"{i}.weight": {"dtype": "BF16", "shape": [size, size],
                                   "data_offsets": [2 * size * size * i, 2 * size * size * (i + 1)]} for i in range(count)}
        with open(self.folder / "large" / "model.safetensors", "wb") as file:
            file.write(safetensors_bytes({}, json.dumps(entries)))
            for _ in range(count):  # never whole in this process, whose memory would count as the program's
                file.write(b"\x01\x3d\x02\x3e" * (size * size // 2))
        process = subprocess.Popen([support.BINARY, "large", "out", *QUICK, "--threads", "1"], cwd=self.folder)
        _, status, usage = os.wait4(process.pid, 0)
        process.returncode = os.waitstatus_to_exitcode(status)
        self.assertEqual(status, 0)
        self.assertLess(usage.ru_maxrss, 100_000)  # kilobytes; all pages of the input would be 128 MB


class ReportTest(CheckpointTest):
    def test_report_and_page(self):
        printed = self.compress("--method", "loftq", "--rank", "4")
        written = json.loads((self.folder / "out" / REPORT).read_text())
        self.assertEqual(printed, written)
        self.assertEqual({entry["name"] for entry in written["tensors"] + written["kept"]}, set(self.shapes))
        totals = written["totals"]
        self.assertEqual(totals["input_bytes"], sum(len(t[2]) for t in read_all(self.folder / "in")[1].values()))
        self.assertEqual(totals["output_bytes"],
                         sum(path.stat().st_size for path in (self.folder / "out").glob("*.safetensors")))
        self.assertEqual(totals["compressed_bytes"], sum(entry["bytes"] for entry in written["tensors"]))
        energy = sum(entry["energy"] for entry in written["tensors"])
        error = sum(entry["energy"] * entry["relative_error"] ** 2 for entry in written["tensors"])
        self.assert_near(totals["relative_error"], (error / energy) ** 0.5)
        check_page(self, (self.folder / "out" / PAGE).read_text(), written)

    def test_table(self):
        text = self.run_ok("in", "out", "--method", "loftq", "--rank", "4")
        for name in self.shapes:
            self.assertEqual(name in text, "proj" in name)
        self.assertIn("14 tensors compressed, 7 kept", text)


class ProcessTest(CheckpointTest):
    def setUp(self):
        super().setUp()
        if not has_mpi():
            self.skipTest("compress_checkpoint was built without MPI, or mpirun starts nothing here")
        write_llama(self.folder / "in", layers=3, hidden=128, inner=192, kv=64, shards=3)

    def run_shared(self, processes: int, *arguments) -> subprocess.CompletedProcess:
        return subprocess.run([*mpirun(processes), support.BINARY, *arguments], cwd=self.folder, capture_output=True,
                              timeout=240)

    def test_any_number_of_processes_gives_the_same_bytes(self):
        options = ["--method", "loftq", "--rank", "8", "--threads", "1", "--quiet"]
        self.run_ok("in", "out", *options)
        for processes in (2, 4):
            output = f"out{processes}"
            done = self.run_shared(processes, "in", output, *options)
            self.assertEqual(done.returncode, 0, done.stderr)
            self.assertEqual(outputs(self.folder / output), outputs(self.folder / "out"))
            report = json.loads((self.folder / output / REPORT).read_text())
            self.assertEqual((report["processes"], len(report["tensors"])), (processes, 21))

    def test_a_failure_names_the_tensor_and_can_be_resumed(self):
        options = ["--method", "loftq", "--rank", "8", "--threads", "1", "--quiet"]
        path = self.folder / "in" / "model-00002-of-00003.safetensors"
        good = path.read_bytes()
        path.write_bytes(good[:-2] + b"\xc0\x7f")
        done = self.run_shared(2, "in", "out", *options)
        self.assertNotEqual(done.returncode, 0)
        self.assertIn(b"compress_checkpoint: process ", done.stderr)
        self.assertIn(b"tensor 'model.layers.", done.stderr)
        self.assertEqual(done.stderr.count(b"compress_checkpoint: "), 1)
        path.write_bytes(good)
        self.assertEqual(self.run_shared(3, "in", "out", *options, "--resume").returncode, 0)
        self.run_ok("in", "alone", *options)
        self.assertEqual(outputs(self.folder / "out"), outputs(self.folder / "alone"))
