# SPDX-FileCopyrightText: 2026 The qlr authors
# SPDX-License-Identifier: MIT
"""Bad input: exit code 2, one line on standard error, and no file left behind."""

import json
import os
import struct
import subprocess
import unittest

import support
from support import CommandLineTest, npy_bytes, random_matrix, safetensors_bytes, tensor

OUTPUTS = ["--output", "o.safetensors", "--reconstruct", "r.safetensors", "--json", "j.json"]


class OptionTest(CommandLineTest):
    def setUp(self):
        super().setUp()
        self.write_weight(24, 96)

    def refuse(self, options: list, *parts: str):
        self.check_refused(["w.safetensors", *options, *OUTPUTS], *parts)

    def test_unknown_names_list_what_is_allowed(self):
        self.refuse(["--bogus"], "--bogus")
        self.refuse(["extra.npy"], "extra.npy")
        self.refuse(["--method", "nope"], "method is 'nope'", "loftq", "lq-lora", "best")
        self.refuse(["--quantizer", "nf5"], "quantizer is 'nf5'", "nf4", "mxint8", "iq4_nl")
        self.refuse(["--scale", "fp8"], "scale is 'fp8'", "fp32, fp16, bf16", "dq-bnb")
        self.refuse(["--scale", "dq:9,fp32,256"], "scale bits is 9", "2 to 8")
        self.refuse(["--scale", "dq:8,fp32,0"], "scale block is 0")
        self.refuse(["--metric", "nope"], "metric is 'nope'", "none", "fisher", "diagonal", "covariance")
        self.refuse(["--svd", "nope"], "svd is 'nope'", "exact, randomized")
        self.refuse(["--device", "gpu"], "device is 'gpu'", "cpu")
        self.refuse(["--tensor", "nope"], "'nope'", "'w'")
        self.refuse(["--method", "a\nb"], "a\\x0ab")

    def test_numbers_out_of_range_name_the_range(self):
        self.refuse(["--rank", "5000"], "rank is 5000", "24 x 96", "0 to 24")
        self.refuse(["--rank", "25"], "rank is 25")
        self.refuse(["--rank", "-1"], "rank is -1")
        self.refuse(["--group-size", "-2"], "group_size is -2", "-1 (per tensor)")
        self.refuse(["--group-size", "97"], "group_size is 97", "1 to 96")
        self.refuse(["--group-size", "64", "--quantizer", "mxfp4"], "group_size is 64", "mxfp4 has groups of 32")
        self.refuse(["--scale", "fp32", "--quantizer", "q4_0"], "scale is fp32", "q4_0 has fp16")
        self.refuse(["--iterations", "0"], "iterations is 0", "1 and above")
        self.refuse(["--iterations", "-3"], "iterations is -3")
        self.refuse(["--factor-bits", "7"], "factor bits is 7", "32, 16, 8 and 4")
        self.refuse(["--threads", "-1"], "threads is -1")
        self.refuse(["--threads", "100000"], "threads is 100000", "1024")
        self.refuse(["--seed", "-1"], "seed is -1")

    def test_values_that_are_no_numbers_missing_twice_or_empty(self):
        for option in ("--rank", "--group-size", "--iterations", "--factor-bits", "--threads", "--seed"):
            for value in ("x", "1.5", "1x", "99999999999999999999999"):
                self.refuse([option, value], option[2:5])
        self.check_refused(["w.safetensors", "--rank"], "--rank")
        self.refuse(["--rank", "1", "--rank", "2"], "--rank")
        for option in ("--tensor", "--method", "--scale", "--calibration", "--metric"):
            self.refuse([option, ""], option, "empty")
        self.check_refused(["", "--method", "qlora"], "INPUT", "empty")
        self.check_refused(["w.safetensors", "--output", ""], "--output", "empty")
        self.check_refused(["--list"], "--list", "INPUT")

    def test_outputs_that_cannot_be_written_are_refused_before_the_work(self):
        self.write("file", b"")
        (self.folder / "folder").mkdir()
        for option in ("--output", "--reconstruct", "--json"):
            for path, part in (("missing/o.json", "missing/o.json"), ("file/o.json", "file/o.json"),
                               ("folder", "folder")):
                others = [o for i in range(0, len(OUTPUTS), 2) if OUTPUTS[i] != option for o in OUTPUTS[i:i + 2]]
                self.check_refused(["w.safetensors", "--rank", "2", option, path, *others], "cannot write", part)
        self.check_refused(["w.safetensors", "--output", "o", "--reconstruct", "o"], "'o'", "two outputs")

    @unittest.skipUnless(os.path.exists("/dev/full"), "there is no /dev/full")
    def test_a_full_standard_output_is_an_error(self):
        with open("/dev/full", "wb") as full:
            done = subprocess.run([support.BINARY, "w.safetensors", "--rank", "2", "--json", "-"], cwd=self.folder,
                                  stdout=full, stderr=subprocess.PIPE, timeout=60, check=False)
        self.assertEqual((done.returncode, done.stderr.count(b"\n")), (2, 1))
        self.assertIn(b"standard output", done.stderr)


class InputFileTest(CommandLineTest):
    def refuse(self, name: str, content, *parts: str, options: tuple = ()):
        if content is not None:
            self.write(name, content)
        self.check_refused([name, "--rank", "2", *options, *OUTPUTS], *parts)

    def test_files_that_are_missing_or_of_another_kind(self):
        self.refuse("missing.safetensors", None, "missing.safetensors", "No such file")
        self.refuse("missing.npy", None, "missing.npy", "No such file")
        self.refuse("w.bin", b"", "w.bin", ".safetensors or .npy")
        self.refuse("w", b"", "'w'")
        (self.folder / "folder.npy").mkdir()
        self.refuse("folder.npy", None, "folder.npy")
        self.refuse("a\nb.npy", None, "a\\x0ab.npy")

    def test_nan_and_infinity_are_named_with_their_index(self):
        for value, text in ((float("nan"), "nan"), (float("inf"), "inf")):
            weight = random_matrix(8, 64)
            weight[3][17] = value
            self.refuse("w.safetensors", safetensors_bytes({"w": tensor(weight)}), "weight(3, 17)", text)
            self.refuse("w.npy", npy_bytes(weight), "weight(3, 17)", text)

    def test_broken_safetensors_files(self):
        good = safetensors_bytes({"w": tensor(random_matrix(4, 8)), "v": tensor(random_matrix(4, 8))})
        length = struct.unpack_from("<Q", good)[0]
        header = json.loads(good[8:8 + length])
        data = good[8 + length:]

        def with_header(**changes) -> bytes:
            entries = {name: {**entry, **changes.get(name, {})} for name, entry in header.items()}
            text = json.dumps(entries).encode()
            return struct.pack("<Q", len(text)) + text + data

        for size in (0, 5, 8, 20, 8 + length, len(good) - 1):
            self.refuse("w.safetensors", good[:size], "w.safetensors")
        self.refuse("w.safetensors", struct.pack("<Q", 8) + b"not json", "header")
        self.refuse("w.safetensors", struct.pack("<Q", 2 ** 63) + good[8:], "header length")
        self.refuse("w.safetensors", with_header(v={"data_offsets": [64, 192]}), "'v'", "overlap")
        self.refuse("w.safetensors", with_header(v={"data_offsets": [0, 128]}), "overlap")
        self.refuse("w.safetensors", with_header(v={"data_offsets": [128, 257]}), "257")
        self.refuse("w.safetensors", with_header(v={"data_offsets": [256, 128]}), "'v'")
        self.refuse("w.safetensors", with_header(v={"dtype": "F16"}), "'v'", "F16")
        self.refuse("w.safetensors", with_header(v={"shape": [4, 9]}), "'v'", "[4, 9]")
        self.refuse("w.safetensors", with_header(v={"shape": [-4, -8]}), "w.safetensors")

    def test_tensors_that_are_no_matrix_of_numbers(self):
        self.refuse("w.safetensors", safetensors_bytes({"w": ("F32", [0, 5], b"")}), "0 x 5", "empty")
        vector = tensor([[1.0] * 8], shape=[8])
        cube = tensor(random_matrix(2, 12), shape=[2, 3, 4])
        self.refuse("w.safetensors", safetensors_bytes({"v": vector, "c": cube}), "2-D", "--tensor")
        self.refuse("w.safetensors", safetensors_bytes({}), "2-D")
        self.refuse("w.safetensors", safetensors_bytes({"w": ("I64", [4, 2], bytes(64))}), "I64", "F32")

    def test_npy_files(self):
        good = npy_bytes(random_matrix(4, 8))
        for size in (0, 5, 9, 40, len(good) - 1):
            self.refuse("w.npy", good[:size], "w.npy")
        self.refuse("w.npy", good + b"\0", "w.npy")
        self.refuse("w.npy", npy_bytes(random_matrix(4, 8), ">f4"), ">f4", "big-endian")
        self.refuse("w.npy", npy_bytes(random_matrix(4, 8), "|O"), "|O", "Python objects")
        self.refuse("w.npy", npy_bytes(random_matrix(4, 8), shape=(2, 2, 8)), "dimensions")
        self.refuse("w.npy", npy_bytes([], shape=(0, 5)), "0 x 5")
        self.refuse("w.npy", good, "--tensor", ".npy", options=("--tensor", "w"))


class CalibrationFileTest(CommandLineTest):
    def setUp(self):
        super().setUp()
        self.write_weight(24, 96)

    def refuse(self, tensors: dict, *parts: str, options: tuple = ()):
        self.write("c.safetensors", safetensors_bytes(tensors))
        self.check_refused(["w.safetensors", "--rank", "2", "--calibration", "c.safetensors", *options, *OUTPUTS],
                           *parts)

    def test_files_without_anything_usable(self):
        self.refuse({"other": tensor(random_matrix(4, 96))}, "X, abs_mean, rms, covariance, fisher")
        self.refuse({}, "c.safetensors")
        self.refuse({"X": ("F32", [0, 96], b"")}, "X")
        for name in ("missing.npy", "missing.safetensors", "c.txt"):
            self.check_refused(["w.safetensors", "--calibration", name], name)

    def test_parts_of_the_wrong_shape(self):
        self.refuse({"X": tensor(random_matrix(5, 95))}, "X is 5 x 95", "96")
        self.write("x.npy", npy_bytes(random_matrix(5, 24)))
        self.check_refused(["w.safetensors", "--calibration", "x.npy"], "X is 5 x 24", "96")
        self.refuse({"covariance": tensor(random_matrix(95, 96))}, "covariance is 95 x 96")
        self.refuse({"rms": tensor([[1.0] * 24], shape=[24])}, "[24]", "[96]")
        self.refuse({"rms": tensor([[1.0] * 96] * 2)}, "rms", "[2, 96]")
        for method in ("lq-lora", "loftq", "best"):  # whether or not the method uses it
            self.refuse({"fisher": tensor(random_matrix(2, 3))}, "fisher is 2 x 3", "24 x 96",
                        options=("--method", method))

    def test_parts_with_impossible_values(self):
        ones = [[1.0] * 96 for _ in range(24)]
        for method in ("lq-lora", "loftq"):
            options = ("--method", method)
            negative = [list(row) for row in ones]
            negative[2][7] = -1.0
            self.refuse({"fisher": tensor(negative)}, "fisher(2, 7) is -1", options=options)
            negative[2][7] = float("nan")
            self.refuse({"fisher": tensor(negative)}, "fisher(2, 7) is", "nan", options=options)
        self.refuse({"X": tensor(negative)}, "X(2, 7) is", "nan")
        self.refuse({"rms": tensor([[1.0] * 95 + [-2.0]], shape=[96])}, "[95] is -2")

    def test_a_covariance_that_is_none(self):
        identity = [[float(i == j) for j in range(96)] for i in range(96)]
        changed = [list(row) for row in identity]
        changed[3][5] = 0.5
        self.refuse({"covariance": tensor(changed)}, "not symmetric", "(3, 5)", "0.5")
        changed[3][5], changed[7][7] = 0.0, -1.0
        self.refuse({"covariance": tensor(changed)}, "covariance(7, 7) is -1")
        indefinite = [list(row) for row in identity]
        indefinite[0][1] = indefinite[1][0] = 1.0
        indefinite[2][1] = indefinite[1][2] = 1.0  # eigenvalue 1 - sqrt(2)
        self.refuse({"covariance": tensor(indefinite)}, "eigenvalues", "-0.41", options=("--method", "qera-exact"))

    def test_forms_and_values_that_do_not_exist(self):
        self.check_refused(["w.safetensors", "--form", "other"], "form is 'other'", "joint", "fixed_q")
        self.check_refused(["w.safetensors", "--given", "q.safetensors"], "--given", "fixed_q")
        self.check_refused(["w.safetensors", "--form", "fixed_q", "--given", "q.safetensors"], "q.safetensors")
        self.check_refused(["w.safetensors", "--polish", "-1"], "polish")
        self.write("x.npy", npy_bytes(random_matrix(9, 96)))
        for value in ("0", "9", "32"):
            self.check_refused(["w.safetensors", "--method", "svdquant", "--calibration", "x.npy",
                                "--activation-bits", value], "activation_bits is " + value)
        self.check_refused(["w.safetensors", "--calibration", "x.npy", "--damping", "-1"], "damping is -1")

    def test_a_metric_without_its_data(self):
        self.check_refused(["w.safetensors", "--metric", "fisher"], "fisher")
        self.check_refused(["w.safetensors", "--metric", "diagonal"], "diagonal")
        self.refuse({"X": tensor(random_matrix(5, 96))}, "fisher", options=("--metric", "fisher"))
        self.refuse({"fisher": tensor([[1.0] * 96] * 24)}, "diagonal", options=("--metric", "diagonal"))
