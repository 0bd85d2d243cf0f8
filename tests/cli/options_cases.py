# SPDX-FileCopyrightText: 2026 The qlr authors
# SPDX-License-Identifier: MIT
"""Every option of the contract, on inputs that are right."""

import itertools
import re
import unittest

from support import (CommandLineTest, add, npy_bytes, product, random_matrix, read_safetensors, relative_error,
                     safetensors_bytes, tensor, unpack)

QUANTIZERS = ([f"int{b}" for b in range(2, 9)] + [f"uint{b}" for b in range(2, 9)] +
              [f"mxint{b}" for b in range(2, 9)] + [f"bfp{b}" for b in range(2, 9)] +
              ["nf2", "nf3", "nf4", "fp4", "sign", "mxfp4", "nvfp4", "q4_0", "iq4_nl", "q8_0"])
FIXED = ["mxfp4", "nvfp4", "q4_0", "iq4_nl", "q8_0"]
BITS = {"fp4": 4, "sign": 1, "mxfp4": 4, "nvfp4": 4, "q4_0": 4, "iq4_nl": 4, "q8_0": 8}
METHODS = ["qlora", "loftq", "lq-lora", "zeroquant-v2", "lqer", "l2qer", "qera-approx", "qera-exact", "eora", "caldera",
           "svdquant", "srr", "odlri", "gptq-intrinsic", "gptq", "best"]  # more may come, these must stay
SCALE_BYTES = {"fp32": 4, "fp16": 2, "bf16": 2, "e8m0": 1, "e4m3-tensor": 1}


def bits_of(quantizer: str) -> int:
    return BITS.get(quantizer) or int(quantizer[-1])


class InputTest(CommandLineTest):
    def test_without_input_a_builtin_matrix_is_taken_that_depends_on_the_seed(self):
        first = self.run_json("--method", "qlora")
        self.assertEqual((first["input"], first["rows"], first["cols"], first["seed"]), ("built-in", 1024, 1024, 0))
        self.assertEqual(first["relative_error"], self.run_json("--method", "qlora")["relative_error"])
        other = self.run_json("--method", "qlora", "--seed", 7)
        self.assertEqual(other["seed"], 7)
        self.assertNotEqual(first["relative_error"], other["relative_error"])

    def test_the_largest_matrix_is_the_default_tensor_and_any_can_be_named(self):
        small, large = random_matrix(8, 16), random_matrix(12, 32)
        self.write("w.safetensors", safetensors_bytes({
            "vector": tensor([[1.0] * 4000], shape=[4000]), "small": tensor(small), "large": tensor(large),
            "cube": tensor(random_matrix(10, 60), shape=[10, 6, 10])}))
        found = self.run_json("w.safetensors", "--rank", 2)
        self.assertEqual((found["tensor"], found["rows"], found["cols"]), ("large", 12, 32))
        found = self.run_json("w.safetensors", "--rank", 2, "--tensor", "small")
        self.assertEqual((found["tensor"], found["rows"], found["cols"]), ("small", 8, 16))
        found = self.run_json("w.safetensors", "--rank", 2, "--tensor", "cube")
        self.assertEqual((found["rows"], found["cols"]), (10, 60))  # trailing dimensions are merged

    def test_list_prints_name_type_and_shape_of_every_tensor(self):
        values = random_matrix(4, 6)
        self.write("w.safetensors", safetensors_bytes({
            "a.weight": tensor(values), "b": tensor(values, "F16"), "c": tensor(values, "BF16"),
            "d": ("I64", [2], bytes(16)), "e": tensor([[1.0]], shape=[]) , "f\n\x1b[31m": tensor(values)}))
        lines = self.run_ok("w.safetensors", "--list").splitlines()
        self.assertEqual(len(lines), 6)
        for expected in (["a.weight", "F32", "[4, 6]"], ["b", "F16", "[4, 6]"], ["c", "BF16", "[4, 6]"],
                         ["d", "I64", "[2]"], ["e", "[]"], ["\\x0a\\x1b[31m", "F32"]):
            self.assertTrue(any(all(part in line for part in expected) for line in lines), (expected, lines))

    def test_list_prints_type_and_shape_of_an_npy_file(self):
        for descr, shape, text in (("<f4", (4, 6), "[4, 6]"), ("<f8", (4, 6), "[4, 6]"), (">f4", (4, 6), "[4, 6]"),
                                   ("<f4", (24,), "[24]")):
            self.write("w.npy", npy_bytes(random_matrix(4, 6), descr, shape=shape))
            self.assertEqual(self.run_ok("w.npy", "--list").split(maxsplit=2), ["w.npy", descr, text + "\n"])

    def test_element_types_and_orders_that_hold_the_same_numbers_give_the_same_result(self):
        weight = [[round(v * 64) / 64 for v in row] for row in random_matrix(16, 64)]  # exact in F16 and BF16
        self.write("w.safetensors", safetensors_bytes({"w": tensor(weight)}))
        expected = self.run_json("w.safetensors", "--rank", 4)["history"]
        for dtype in ("F16", "BF16", "F64"):
            self.write("w.safetensors", safetensors_bytes({"w": tensor(weight, dtype)}))
            self.assertEqual(self.run_json("w.safetensors", "--rank", 4)["history"], expected, dtype)
        for descr, fortran in itertools.product(("<f4", "<f8", "<f2"), (False, True)):
            self.write("w.npy", npy_bytes(weight, descr, fortran))
            self.assertEqual(self.run_json("w.npy", "--rank", 4)["history"], expected, (descr, fortran))


class MethodAndQuantizerTest(CommandLineTest):
    def test_every_method_runs_with_several_quantizers_and_quantizes_what_it_says(self):
        self.write_weight(16, 64)
        listed = re.search(r"allowed are (.*)", self.run_program("--method", "?").stderr.decode()).group(1)
        methods = listed.split(", ")
        self.assertTrue(set(METHODS) <= set(methods), methods)
        for method in methods:
            default = self.run_json("w.safetensors", "--rank", 4, "--method", method)
            self.assertEqual(default["method"], method)
            for quantizer in ("nf4", "int3", "uint4", "mxint4"):
                with self.subTest(method=method, quantizer=quantizer):
                    found = self.run_json("w.safetensors", "--rank", 4, "--method", method, "--quantizer", quantizer)
                    self.assertEqual((found["method"], found["quantizer"]), (method, quantizer))
                    self.assertLess(found["relative_error"], 0.45)
                    self.assertGreater(found["relative_error"], 0)
                    if method not in ("qlora", "gptq"):
                        self.assertEqual(found["rank"], 4)

    def test_every_quantizer_takes_the_bits_and_scales_it_should(self):
        self.write_weight(16, 192)
        for quantizer in QUANTIZERS:
            with self.subTest(quantizer=quantizer):
                found = self.run_json("w.safetensors", "--method", "qlora", "--quantizer", quantizer)
                bits, group = bits_of(quantizer), found["group_size"]
                expected_group = {"mxi": 32, "mxf": 32, "bfp": 16, "nvf": 16, "q4_": 32, "q8_": 32, "iq4": 32}
                self.assertEqual(group, expected_group.get(quantizer[:3], 64))
                zeros = bits if quantizer.startswith("uint") else 0
                expected = bits + (8 * SCALE_BYTES[found["scale"]] + zeros) / group
                self.assertEqual(found["bits_per_weight_quantized"], expected)
                self.assertEqual(found["bits_per_weight"], expected)  # rank 0
                self.assertLess(found["relative_error"], {1: 0.8, 2: 0.8, 3: 0.45}.get(bits, 0.22))

    def test_more_bits_give_a_lower_error(self):
        self.write_weight(16, 192)
        for family in ("int", "uint", "mxint", "bfp"):
            errors = [self.run_json("w.safetensors", "--method", "qlora", "--quantizer", f"{family}{b}")
                      ["relative_error"] for b in range(2, 9)]
            self.assertEqual(errors, sorted(errors, reverse=True), family)

    def test_group_sizes(self):
        self.write_weight(16, 192)
        for quantizer in ("nf4", "uint4", "mxint4", "sign"):
            scales = {}
            for size, count in ((0, 16), (-1, 1), (32, 96), (50, 64), (192, 16), (1, 16 * 192)):
                if quantizer == "sign" and size == 1:
                    continue
                found = self.run_json("w.safetensors", "--method", "qlora", "--quantizer", quantizer,
                                      "--group-size", size)
                self.assertEqual(found["group_size"], size)
                zero_bits = 4 if quantizer == "uint4" else 0
                bytes_expected = 16 * 192 * bits_of(quantizer.replace("mxint4", "int4")) // 8 \
                    + count * SCALE_BYTES[found["scale"]] + (count * zero_bits + 7) // 8
                self.assertEqual(found["packed_bytes"], bytes_expected, (quantizer, size))
                scales[size] = found["relative_error"]
            self.assertLess(scales[32], scales[-1])
        for quantizer in FIXED:
            size = 16 if quantizer == "nvfp4" else 32
            self.run_ok("w.safetensors", "--quantizer", quantizer, "--group-size", size)

    def test_scale_forms(self):
        self.write_weight(16, 192)
        num_scales = 16 * 3
        code_bytes = 16 * 192 // 2
        for scale, name, scale_bytes in (
                ("fp32", "fp32", 4 * num_scales), ("fp16", "fp16", 2 * num_scales), ("bf16", "bf16", 2 * num_scales),
                ("dq", "dq:8,fp32,256", num_scales + 4), ("dq:8,fp32,256", "dq:8,fp32,256", num_scales + 4),
                ("dq:3,bf16,16", "dq:3,bf16,16", num_scales * 3 // 8 + 3 * 2),
                ("dq:4,fp16,7", "dq:4,fp16,7", num_scales // 2 + 7 * 2), ("dq-bnb", "dq-bnb", num_scales + 4)):
            with self.subTest(scale=scale):
                found = self.run_json("w.safetensors", "--method", "qlora", "--scale", scale)
                self.assertEqual((found["scale"], found["packed_bytes"]), (name, code_bytes + scale_bytes))
                self.assertLess(found["relative_error"], 0.15)
                self.assertLess(self.run_json("w.safetensors", "--scale", scale, "--rank", 4)["relative_error"], 0.15)

    def test_scale_search_lowers_the_error(self):
        self.write_weight(16, 192)
        for quantizer in ("nf4", "int3", "nf2", "uint3"):
            options = ["w.safetensors", "--method", "qlora", "--quantizer", quantizer]
            searched = self.run_json(*options, "--scale-search")["relative_error"]
            self.assertLess(searched, 0.995 * self.run_json(*options)["relative_error"], quantizer)


class LoopTest(CommandLineTest):
    def test_factor_bits(self):
        self.write_weight(64, 192)
        sizes, errors = {}, {}
        for bits in (32, 16, 8, 4):
            found = self.run_json("w.safetensors", "--method", "loftq", "--rank", 4, "--factor-bits", bits)
            sizes[bits] = found["packed_bytes"] - 64 * 192 // 2 - 64 * 3 * 2
            errors[bits] = found["relative_error"]
        count = 4 * (64 + 192)
        self.assertEqual(sizes, {32: 4 * count, 16: 2 * count, 8: count + count // 64 * 2, 4: count // 2 + count // 64 * 2})
        self.assertLess(errors[32], 1.005 * min(errors.values()))  # the loop is chaotic in the last digits
        self.assertEqual(self.run_json("w.safetensors", "--method", "loftq", "--rank", 4)["packed_bytes"],
                         sizes[16] + 64 * 192 // 2 + 64 * 3 * 2)  # the default

    def test_exact_and_randomized_svd_agree(self):
        self.write_weight(48, 96)
        options = ["w.safetensors", "--method", "zeroquant-v2", "--rank", 8]
        exact = self.run_json(*options, "--svd", "exact")["relative_error"]
        randomized = self.run_json(*options, "--svd", "randomized")["relative_error"]
        self.assertLessEqual(exact, randomized * (1 + 1e-6))
        self.assert_near(randomized, exact, 0.01)

    def test_rank_and_iterations(self):
        self.write_weight(24, 96)
        errors = [self.run_json("w.safetensors", "--method", "zeroquant-v2", "--rank", r)["relative_error"]
                  for r in (0, 1, 8, 24)]
        self.assertEqual(errors, sorted(errors, reverse=True))
        self.assertEqual(self.run_json("w.safetensors")["rank"], 16)
        for count in (1, 3, 7):
            found = self.run_json("w.safetensors", "--method", "loftq", "--iterations", count)
            self.assertEqual((found["iterations_run"], len(found["history"])), (count, count))
        self.assertEqual(self.run_json("w.safetensors", "--method", "loftq")["iterations_run"], 5)

    def test_results_do_not_depend_on_threads_or_repetition_but_on_the_seed(self):
        weight = random_matrix(150, 450)  # several tasks
        self.write("w.npy", npy_bytes(weight))
        outputs = []
        for run, threads in enumerate((1, 2, 3, 2)):
            self.run_ok("w.npy", "--rank", 8, "--iterations", 4, "--threads", threads, "--quiet", "--output",
                        f"{run}.safetensors", "--reconstruct", f"{run}.dense.safetensors", "--json", f"{run}.json")
            outputs.append([(self.folder / f"{run}{end}").read_bytes() for end in (".safetensors", ".dense.safetensors")])
        for other in outputs[1:]:
            self.assertEqual(other, outputs[0])
        self.run_ok("w.npy", "--rank", 8, "--iterations", 4, "--quiet", "--seed", 1, "--output", "s.safetensors")
        self.assertNotEqual((self.folder / "s.safetensors").read_bytes(), outputs[0][0])

    def test_the_device_can_be_named(self):
        self.write_weight(8, 64)
        self.assertEqual(self.run_json("w.safetensors", "--rank", 2, "--device", "cpu")["device"], "cpu")

    def test_a_gpu_gives_the_cpus_result_or_is_refused_with_a_reason(self):
        self.write_weight(48, 96)
        common = ("w.safetensors", "--rank", 4, "--iterations", 3)
        done = self.run_program(*common, "--device", "cuda", "--json", "-")
        if done.returncode != 0:
            self.check_refused([*common, "--device", "cuda"], "device is 'cuda'", "cpu")
            self.skipTest("no GPU")
        report = json.loads(done.stdout)
        self.assertEqual(report["device"], "cuda")
        expected = self.run_json(*common)["relative_error"]
        self.assertLess(abs(report["relative_error"] - expected), 1e-3 * expected)


class OutputTest(CommandLineTest):
    def test_output_holds_the_documented_tensors_and_metadata(self):
        self.write_weight(24, 96)
        for bits, quantizer, scale in ((16, "nf4", "fp16"), (32, "uint3", "dq:4,bf16,8"), (8, "int4", "dq-bnb"),
                                       (4, "sign", "fp32")):
            with self.subTest(quantizer=quantizer):
                report = self.run_json("w.safetensors", "--rank", 4, "--method", "loftq", "--quantizer", quantizer,
                                       "--scale", scale, "--factor-bits", bits, "--output", "o.safetensors")
                metadata, tensors = read_safetensors(self.folder / "o.safetensors")
                expected = {"qlr.format": "decomposition", "qlr.version": "1", "qlr.scale": "1",
                            "qlr.factors": {32: "fp32", 16: "fp16", 8: "int8", 4: "int4"}[bits],
                            "Q.format": quantizer, "Q.rows": "24", "Q.cols": "96", "Q.group_size": "64",
                            "Q.bits": str(bits_of(quantizer)), "Q.scales": report["scale"], "Q.order": "lsb_first",
                            "Q.zeros": "integer" if quantizer[0] == "u" else "none"}
                self.assertEqual({key: metadata.get(key) for key in expected}, expected)
                float(metadata["Q.scale_base"])
                self.assertEqual(tensors["Q.codes"][:2], ("U8", [24, (96 * bits_of(quantizer) + 7) // 8]))
                self.assertEqual(tensors["Q.levels"][:2], ("F32", [2 ** bits_of(quantizer)]))
                self.assertEqual("Q.supers" in tensors, scale.startswith("dq"))
                self.assertEqual("Q.zeros" in tensors, quantizer[0] == "u")
                if bits >= 16:
                    self.assertEqual(tensors["L"][:2], (f"F{bits}", [24, 4]))
                    self.assertEqual(tensors["R"][:2], (f"F{bits}", [4, 96]))
                else:
                    self.assertEqual((metadata["L.rows"], metadata["L.cols"]), ("4", "24"))
                    self.assertEqual((metadata["R.rows"], metadata["R.cols"]), ("4", "96"))
                packed = sum(len(content) for name, (_, _, content) in tensors.items() if not name.endswith(".levels"))
                self.assertEqual(packed, report["packed_bytes"])

    def test_reconstruct_holds_parts_that_add_up_and_have_the_reported_error(self):
        weight = self.write_weight(24, 96)
        for method, bits in (("best", 16), ("loftq", 8), ("lqer", 4), ("qlora", 16)):
            with self.subTest(method=method):
                report = self.run_json("w.safetensors", "--method", method, "--factor-bits", bits, "--rank", 6,
                                       "--reconstruct", "r.safetensors")
                _, tensors = read_safetensors(self.folder / "r.safetensors")
                self.assertEqual({name: entry[0] for name, entry in tensors.items()},
                                 dict.fromkeys(("Q", "L", "R", "W_hat"), "F32"))
                q, w_hat = unpack(tensors["Q"]), unpack(tensors["W_hat"])
                low_rank = [[0.0] * 96 for _ in range(24)]
                if method not in ("qlora", "gptq"):
                    low_rank = product(unpack(tensors["L"]), unpack(tensors["R"]))
                for row, expected in zip(w_hat, add(q, low_rank)):
                    for value, sum_value in zip(row, expected):
                        self.assertAlmostEqual(value, sum_value, delta=2e-6)
                self.assert_near(report["relative_error"], relative_error(weight, w_hat))
                self.assert_near(report["relative_error_quantized_only"], relative_error(weight, q))

    def test_outputs_replace_older_files_and_leave_nothing_else(self):
        self.write_weight(8, 64)
        for name in ("o.safetensors", "r.safetensors", "j.json"):
            self.write(name, b"old")
        self.run_ok("w.safetensors", "--rank", 2, "--quiet", "--output", "o.safetensors", "--reconstruct",
                    "r.safetensors", "--json", "j.json")
        files = self.listing()
        self.assertEqual(sorted(files), ["j.json", "o.safetensors", "r.safetensors", "w.safetensors"])
        self.assertNotIn(b"old", files.values())

    def test_a_path_that_is_not_utf8_works(self):
        self.write_weight(8, 64)
        name = b"w\xff.safetensors"
        try:
            (self.folder / "w.safetensors").rename(self.folder / name.decode(errors="surrogateescape"))
        except OSError:
            raise unittest.SkipTest("the file system takes UTF-8 names only")
        self.run_ok(name.decode(errors="surrogateescape"), "--rank", 2, "--json", "-")
