# SPDX-FileCopyrightText: 2026 The qlr authors
# SPDX-License-Identifier: MIT
"""The JSON report, the table, and errors measured with calibration data."""

import json
import math
import os
import pty
import re
import subprocess
import threading
import unittest

import support
from support import (CommandLineTest, npy_bytes, output_error, product, random_matrix, read_safetensors,
                     relative_error, safetensors_bytes, tensor, unpack)

KEYS = {"qlr_version": str, "input": str, "tensor": str, "rows": int, "cols": int, "method": str, "quantizer": str,
        "group_size": int, "scale": str, "rank": int, "iterations_run": int, "stop_reason": str, "seed": int,
        "device": str, "threads": int, "relative_error": float, "relative_error_quantized_only": float,
        "relative_output_error": type(None), "weighted_error": float, "history": list, "bits_per_weight": float,
        "bits_per_weight_quantized": float, "packed_bytes": int, "seconds_total": float, "seconds_svd": float,
        "seconds_quantize": float, "peak_rss_bytes": int}


class ReportTest(CommandLineTest):
    def check_report(self, report: dict):
        for key, expected in KEYS.items():
            self.assertIn(key, report)
            self.assertIsInstance(report[key], expected, key)
        self.assertRegex(report["qlr_version"], r"^\d+\.\d+\.\d+$")
        self.assertGreaterEqual(len(report["history"]), report["iterations_run"])
        self.assertTrue(all(isinstance(error, float) for error in report["history"]))
        self.assert_near(min(report["history"]), report["weighted_error"], 1e-5)
        self.assertEqual(report["bits_per_weight"], 8 * report["packed_bytes"] / (report["rows"] * report["cols"]))
        self.assertGreaterEqual(report["bits_per_weight"], report["bits_per_weight_quantized"])
        self.assertGreaterEqual(report["seconds_total"], 0.999 * (report["seconds_svd"] + report["seconds_quantize"]))
        self.assertGreater(report["peak_rss_bytes"], 1 << 20)
        self.assertLess(report["peak_rss_bytes"], 1 << 30)

    def test_a_file_and_standard_output_hold_the_same_complete_report(self):
        self.write_weight(24, 96)
        times = ("seconds_total", "seconds_svd", "seconds_quantize", "peak_rss_bytes")
        for method in ("best", "loftq", "lq-lora", "qlora"):
            options = ["w.safetensors", "--method", method, "--rank", 4, "--seed", 3, "--threads", 2]
            printed = self.run_json(*options)
            self.assertEqual(self.run_ok(*options, "--quiet", "--json", "j.json"), "")
            written = json.loads((self.folder / "j.json").read_text())
            for report in (printed, written):
                self.check_report(report)
                for key in times:
                    del report[key]
            self.assertEqual(written, printed)
            self.assertEqual((written["input"], written["tensor"], written["seed"], written["threads"]),
                             ("w.safetensors", "w", 3, 2))

    def test_quiet_prints_nothing(self):
        self.write_weight(8, 64)
        self.assertEqual(self.run_ok("w.safetensors", "--rank", 2, "--quiet"), "")

    def test_the_table_shows_every_iteration_and_the_size(self):
        self.write_weight(24, 96)
        options = ["w.safetensors", "--method", "loftq", "--rank", 4, "--iterations", 6]
        text = self.run_ok(*options, "--json", "j.json")
        report = json.loads((self.folder / "j.json").read_text())
        self.assertIn("w.safetensors", text.splitlines()[0])
        self.assertIn("24 x 96", text.splitlines()[0])
        rows = re.findall(r"^ +(\d+) +(\d\.\d+) +(\d\.\d+)", text, re.M)
        self.assertEqual([int(row[0]) for row in rows], [1, 2, 3, 4, 5, 6])
        self.assertEqual([row[1] for row in rows], [f"{error:.6f}" for error in report["history"]])
        self.assertIn(f"bits per weight     {report['bits_per_weight']:.4f}", text)
        self.assertIn(f"{16 / report['bits_per_weight']:.2f}x against fp16", text)
        self.assertIn(f"relative error      {report['relative_error']:.6f}", text)
        self.assertRegex(text, r"seconds +\d+\.\d+ +\(SVD \d+\.\d+, quantization \d+\.\d+;")

    def test_help_and_version_succeed(self):
        self.assertIn("--quantizer", self.run_ok("--help"))
        self.assertRegex(self.run_ok("--version"), r"^qlr \d+\.\d+\.\d+\n$")

    def test_long_work_shows_progress_on_a_terminal_only(self):
        terminal, program_side = pty.openpty()
        shown = []

        def read_terminal():
            try:
                while chunk := os.read(terminal, 4096):
                    shown.append(chunk)
            except OSError:
                pass  # the program has closed its side

        options = ["--method", "loftq", "--svd", "exact", "--threads", "1", "--iterations", "3", "--json", "j.json"]
        reader = threading.Thread(target=read_terminal)
        reader.start()
        done = subprocess.run([support.BINARY, *options], cwd=self.folder, stdout=subprocess.PIPE, stderr=program_side,
                              timeout=300, check=False)
        os.close(program_side)
        reader.join()
        os.close(terminal)
        self.assertEqual(done.returncode, 0)
        if json.loads((self.folder / "j.json").read_text())["seconds_total"] > 1.5:
            self.assertRegex(b"".join(shown).decode(), r"iteration \d+ is running, \d+ s")
        self.assertNotIn(b"running", done.stdout)


class CalibrationTest(CommandLineTest):
    def setUp(self):
        super().setUp()
        self.weight = self.write_weight(24, 96)
        self.x = random_matrix(40, 96, 5)
        self.fisher = [[abs(v) + (0.5 if i == 3 else 0.0) for v in row]
                       for i, row in enumerate(random_matrix(24, 96, 6))]

    def run_and_rebuild(self, *options) -> tuple:
        report = self.run_json("w.safetensors", "--rank", 4, *options, "--reconstruct", "r.safetensors")
        return report, unpack(read_safetensors(self.folder / "r.safetensors")[1]["W_hat"])

    def test_output_error_from_activations(self):
        self.write("x.npy", npy_bytes(self.x))
        self.write("x.safetensors", safetensors_bytes({"X": tensor(self.x), "ignored": ("I64", [1], bytes(8))}))
        for method in ("loftq", "best", "lq-lora"):
            for name in ("x.npy", "x.safetensors"):
                report, w_hat = self.run_and_rebuild("--method", method, "--calibration", name)
                self.assert_near(report["relative_output_error"], output_error(self.weight, w_hat, self.x))
        self.assertIn("output error        ", self.run_ok("w.safetensors", "--rank", 4, "--calibration", "x.npy"))

    def test_output_error_from_a_covariance_is_that_of_its_activations(self):
        transposed = [list(column) for column in zip(*self.x)]
        covariance = [[value / len(self.x) for value in row] for row in product(transposed, self.x)]
        self.write("h.safetensors", safetensors_bytes({"covariance": tensor(covariance, "F64")}))
        report, w_hat = self.run_and_rebuild("--method", "loftq", "--calibration", "h.safetensors")
        self.assert_near(report["relative_output_error"], output_error(self.weight, w_hat, self.x))

    def test_fisher_weights_the_error_of_every_method(self):
        self.write("f.safetensors", safetensors_bytes({"fisher": tensor(self.fisher)}))
        for method, metric in (("lq-lora", None), ("lq-lora", "none"), ("lq-lora", "fisher"), ("loftq", None),
                               ("loftq", "fisher"), ("best", None)):
            with self.subTest(method=method, metric=metric):
                forced = ["--metric", metric] if metric else []
                report, w_hat = self.run_and_rebuild("--method", method, *forced, "--calibration", "f.safetensors")
                self.assert_near(report["weighted_error"], relative_error(self.weight, w_hat, self.fisher))
                self.assert_near(report["relative_error"], relative_error(self.weight, w_hat))
                self.assertIsNone(report["relative_output_error"])
        taken = self.run_and_rebuild("--method", "lq-lora", "--calibration", "f.safetensors")[0]
        plain = self.run_and_rebuild("--method", "lq-lora", "--metric", "none", "--calibration", "f.safetensors")[0]
        self.assertLess(taken["weighted_error"], plain["weighted_error"])

    def test_diagonal_metric_from_x_rms_and_abs_mean(self):
        rms = [math.sqrt(math.fsum(row[j] ** 2 for row in self.x) / len(self.x)) for j in range(96)]
        weights = [[value ** 2 for value in rms] for _ in range(24)]
        self.write("x.npy", npy_bytes(self.x))
        self.write("rms.safetensors", safetensors_bytes({"rms": tensor([rms], shape=[96])}))
        self.write("mean.safetensors", safetensors_bytes({"abs_mean": tensor([rms], "F64", [96])}))
        for name in ("x.npy", "rms.safetensors", "mean.safetensors"):
            with self.subTest(name=name):
                report, w_hat = self.run_and_rebuild("--method", "loftq", "--metric", "diagonal", "--calibration", name)
                expected = relative_error(self.weight, w_hat, weights)
                self.assert_near(report["weighted_error"], expected)
                plain = self.run_and_rebuild("--method", "loftq", "--calibration", name)[1]
                self.assertLess(expected, relative_error(self.weight, plain, weights))

    def test_the_input_itself_may_be_the_calibration(self):
        self.write("w.safetensors", safetensors_bytes({"w": tensor(self.weight), "X": tensor(self.x[:20])}))
        report, w_hat = self.run_and_rebuild("--method", "loftq", "--calibration", "w.safetensors")
        self.assertEqual(report["tensor"], "w")
        self.assert_near(report["relative_output_error"], output_error(self.weight, w_hat, self.x[:20]))

    def test_without_calibration_the_error_is_frobenius(self):
        report, w_hat = self.run_and_rebuild("--method", "lq-lora", "--metric", "none")
        self.assert_near(report["weighted_error"], relative_error(self.weight, w_hat))


