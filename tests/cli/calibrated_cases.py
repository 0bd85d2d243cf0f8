# SPDX-FileCopyrightText: 2026 The qlr authors
# SPDX-License-Identifier: MIT
"""Calibrated methods, their metrics, both forms, and calibration that is poor but not wrong."""

import struct

from support import (CommandLineTest, npy_bytes, output_error, product, random_matrix, read_safetensors,
                     relative_error, safetensors_bytes, tensor, unpack)

COVARIANCE_METHODS = ["qera-exact", "eora", "gptq", "caldera", "svdquant", "srr", "odlri", "gptq-intrinsic", "best"]


def imatrix(name: str, values: list, calls: int) -> bytes:
    """llama.cpp's older form with one entry: mean squares times the number of calls."""
    text = name.encode()
    return struct.pack(f"<ii{len(text)}sii{len(values)}f", 1, len(text), text, calls, len(values),
                       *(v * calls for v in values))


class CalibratedTest(CommandLineTest):
    def setUp(self):
        super().setUp()
        self.weight = self.write_weight(24, 96)
        self.x = [[v * (8.0 if j % 31 == 4 else 1.0) for j, v in enumerate(row)] for row in random_matrix(150, 96, 5)]
        self.write("x.npy", npy_bytes(self.x))

    def run_and_rebuild(self, *options) -> tuple:
        report = self.run_json("w.safetensors", "--rank", 4, "--quantizer", "int3", *options,
                               "--reconstruct", "r.safetensors")
        return report, unpack(read_safetensors(self.folder / "r.safetensors")[1]["W_hat"])

    def test_methods_take_the_metric_they_can_use(self):
        for method, metric in [("loftq", "none"), ("l2qer", "diagonal"), ("qera-approx", "diagonal"),
                               *((name, "covariance") for name in COVARIANCE_METHODS)]:
            with self.subTest(method=method):
                report, w_hat = self.run_and_rebuild("--method", method, "--calibration", "x.npy")
                self.assertEqual(report["metric"], metric)
                self.assertEqual(report.get("covariance_rank"), 96 if metric == "covariance" else None)
                found = output_error(self.weight, w_hat, self.x)
                self.assert_near(report["relative_output_error"], found)
                if metric == "covariance" and method != "best":  # which adds damping
                    self.assert_near(report["weighted_error"], found, 1e-4)

    def test_knowledge_of_the_inputs_lowers_the_output_error(self):
        def error(method, *options):
            return self.run_and_rebuild("--method", method, *options, "--calibration", "x.npy")[0]["relative_output_error"]
        plain = error("zeroquant-v2")
        for method in ("l2qer", "qera-approx", "qera-exact", "caldera", "svdquant", "gptq-intrinsic", "best"):
            self.assertLess(error(method), 0.9 * plain, method)
        self.assertLess(error("qera-exact", "--feedback"), error("qera-exact"))
        self.assertLess(error("qera-exact", "--polish", 3), error("qera-exact"))
        self.assertLess(error("best"), min(map(error, COVARIANCE_METHODS[:-1])))

    def test_a_covariance_gives_what_its_activations_give(self):
        transposed = [list(column) for column in zip(*self.x)]
        h = [[value / len(self.x) for value in row] for row in product(transposed, self.x)]
        self.write("h.safetensors", safetensors_bytes({"covariance": tensor(h, "F64")}))
        for method in ("qera-exact", "qera-approx", "best"):
            a = self.run_and_rebuild("--method", method, "--calibration", "x.npy")[0]
            b = self.run_and_rebuild("--method", method, "--calibration", "h.safetensors")[0]
            self.assert_near(a["relative_output_error"], b["relative_output_error"], 0.01)

    def test_an_importance_matrix_is_a_diagonal_metric(self):
        squares = [sum(row[j] ** 2 for row in self.x) / len(self.x) for j in range(96)]
        self.write("i.dat", imatrix("w", squares, 7))
        self.write("rms.safetensors", safetensors_bytes({"rms": tensor([[v ** 0.5 for v in squares]], shape=[96])}))
        a, from_imatrix = self.run_and_rebuild("--method", "qera-exact", "--calibration", "i.dat")
        b, from_rms = self.run_and_rebuild("--method", "qera-exact", "--calibration", "rms.safetensors")
        self.assertEqual((a["metric"], a["notes"]), ("diagonal", []))
        self.assertLess(relative_error(from_rms, from_imatrix), 1e-5)
        self.write("i.dat", imatrix("other", squares, 7))
        report = self.run_and_rebuild("--method", "qera-exact", "--calibration", "i.dat")[0]
        self.assertEqual(report["metric"], "none")
        self.assertIn("unweighted", report["notes"][0])
        self.assertIn("note: ", self.run_ok("w.safetensors", "--rank", 2, "--calibration", "i.dat"))

    def test_poor_calibration_gives_finite_results(self):
        silent = [[0.0 if j == 40 else v for j, v in enumerate(row)] for row in self.x]
        cases = {"one token": self.x[:1], "fewer tokens than inputs": self.x[:20], "a silent input": silent}
        for name, x in cases.items():
            self.write("x.npy", npy_bytes(x))
            for method in ("l2qer", "qera-approx", *COVARIANCE_METHODS):
                with self.subTest(name=name, method=method):
                    report, w_hat = self.run_and_rebuild("--method", method, "--calibration", "x.npy")
                    self.assertLess(report["relative_error"], 3.0)  # NaN is not below anything
                    self.assert_near(report["relative_output_error"], output_error(self.weight, w_hat, x), 1e-3)
        self.write("x.npy", npy_bytes([[0.0] * 96] * 5))
        report = self.run_and_rebuild("--method", "qera-exact", "--calibration", "x.npy")[0]
        self.assertEqual(report["metric"], "none")
        self.assertIn("all zero", report["notes"][0])

    def test_rounding_in_a_covariance_is_forgiven(self):
        transposed = [list(column) for column in zip(*self.x[:20])]  # rank 20 of 96
        h = [[value / 20 for value in row] for row in product(transposed, self.x[:20])]
        h[3][5] *= 1 + 1e-9  # not quite symmetric; in F32 some of the 76 eigenvalues of zero become negative
        self.write("h.safetensors", safetensors_bytes({"covariance": tensor(h, "F32")}))
        report = self.run_and_rebuild("--method", "qera-exact", "--calibration", "h.safetensors")[0]
        self.assertLess(report["relative_output_error"], 0.2)

    def test_fixed_q_keeps_q(self):
        def parts():
            return {name: entry for name, entry in read_safetensors(self.folder / "r.safetensors")[1].items()}
        self.run_json("w.safetensors", "--rank", 4, "--method", "gptq", "--quantizer", "int3", "--calibration", "x.npy",
                      "--output", "q.safetensors", "--reconstruct", "r.safetensors")
        given = parts()["Q"]
        report = self.run_and_rebuild("--method", "qera-exact", "--calibration", "x.npy", "--form", "fixed_q",
                                      "--given", "q.safetensors")[0]
        self.assertEqual(parts()["Q"], given)
        self.assertEqual((report["form"], report["rank"]), ("fixed_q", 4))
        self.run_json("w.safetensors", "--rank", 4, "--method", "svdquant", "--calibration", "x.npy",
                      "--output", "s.safetensors")
        self.check_refused(["w.safetensors", "--form", "fixed_q", "--given", "s.safetensors"], "smoothed inputs")
        plain = self.run_and_rebuild("--method", "best", "--calibration", "x.npy", "--form", "fixed_q")[0]
        once = self.run_and_rebuild("--method", "qera-exact", "--calibration", "x.npy")[0]
        self.assert_near(plain["relative_output_error"], once["relative_output_error"], 0.01)

    def test_quantized_inputs_cost_accuracy(self):
        def error(bits):
            return self.run_and_rebuild("--method", "svdquant", "--calibration", "x.npy",
                                        "--activation-bits", bits)[0]["weighted_error"]
        self.assertLess(error(16), error(8) * 1.001)
        self.assertLess(error(8), error(4))
