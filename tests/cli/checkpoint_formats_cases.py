# SPDX-FileCopyrightText: 2026 The qlr authors
# SPDX-License-Identifier: MIT
"""What compress_checkpoint writes is read by readers of its own, in plain Python: the error they find is the one
that the report says."""

import json
import struct

from checkpoint_support import CheckpointTest, read_all
from support import Matrix, add, norm, product, read_safetensors, relative_error

LAYERS = ["model.layers.1.self_attn.k_proj.weight", "model.layers.0.mlp.down_proj.weight"]


def bf16(content: bytes) -> list:
    return [struct.unpack("<f", b"\0\0" + content[i:i + 2])[0] for i in range(0, len(content), 2)]


def values_of(entry: tuple) -> list:
    dtype, _, content = entry
    if dtype == "BF16":
        return bf16(content)
    code = {"F32": "f", "F16": "e", "U8": "B", "I8": "b"}[dtype]
    return list(struct.unpack(f"<{len(content) // struct.calcsize(code)}{code}", content))


def matrix_of(entry: tuple) -> Matrix:
    flat, (rows, cols) = values_of(entry), entry[1]
    return [flat[i * cols:(i + 1) * cols] for i in range(rows)]


def read_qlr(metadata: dict, tensors: dict, name: str) -> tuple:
    """(Q, L R) of a decomposition with plain scales and unquantized factors."""
    def text(key):
        return metadata[f"{name}.{key}"]

    rows, cols, bits = int(text("Q.rows")), int(text("Q.cols")), int(text("Q.bits"))
    group = int(text("Q.group_size")) or cols
    codes, levels = tensors[f"{name}.Q.codes"][2], values_of(tensors[f"{name}.Q.levels"])
    scales, row_bytes = values_of(tensors[f"{name}.Q.scales"]), len(codes) // rows
    per_row = (cols + group - 1) // group
    quantized = []
    for i in range(rows):
        word = int.from_bytes(codes[i * row_bytes:(i + 1) * row_bytes], "little")
        quantized.append([levels[(word >> (bits * j)) & ((1 << bits) - 1)] * scales[i * per_row + j // group]
                          for j in range(cols)])
    left, right = matrix_of(tensors[f"{name}.L"]), matrix_of(tensors[f"{name}.R"])
    scale = float(text("qlr.scale"))
    if not right:
        return quantized, [[0.0] * cols] * rows
    return quantized, [[scale * x for x in row] for row in product(left, right)]


def read_bitsandbytes(tensors: dict, name: str) -> Matrix:
    state = json.loads(tensors[f"{name}.quant_state.bitsandbytes__nf4"][2])
    rows, cols = state["shape"]
    codes, table = tensors[name][2], values_of(tensors[f"{name}.quant_map"])
    absmax = values_of(tensors[f"{name}.absmax"])
    if "nested_blocksize" in state:
        nested, outer = values_of(tensors[f"{name}.nested_quant_map"]), values_of(tensors[f"{name}.nested_absmax"])
        absmax = [nested[code] * outer[i // state["nested_blocksize"]] + state["nested_offset"]
                  for i, code in enumerate(absmax)]
    nibbles = [half for byte in codes for half in (byte >> 4, byte & 15)]
    flat = [table[code] * absmax[i // state["blocksize"]] for i, code in enumerate(nibbles[:rows * cols])]
    return [flat[i * cols:(i + 1) * cols] for i in range(rows)]


def read_svdquant(tensors: dict, module: str) -> tuple:
    """(Q, L R) of int4; Q as it acts on inputs that are not smoothed."""
    rows, half = tensors[f"{module}.qweight"][1]
    codes, scales = tensors[f"{module}.qweight"][2], matrix_of(tensors[f"{module}.wscales"])
    smooth = values_of(tensors[f"{module}.smooth_factor"])
    quantized = []
    for i in range(rows):
        nibbles = [part for byte in codes[i * half:(i + 1) * half] for part in (byte & 15, byte >> 4)]
        quantized.append([(n - 16 if n > 7 else n) * scales[j // 64][i] / smooth[j] for j, n in enumerate(nibbles)])
    down = matrix_of(tensors[f"{module}.proj_down"])
    return quantized, product(matrix_of(tensors[f"{module}.proj_up"]), [list(column) for column in zip(*down)])


class FormatTest(CheckpointTest):
    def setUp(self):
        super().setUp()
        _, self.weights = read_all(self.folder / "in")

    def check(self, report: dict, name: str, approximate: Matrix):
        entry = next(entry for entry in report["tensors"] if entry["name"] == name)
        weight = matrix_of(self.weights[name])
        self.assert_near(relative_error(weight, approximate), entry["relative_error"], 1e-4)
        return entry

    def test_qlr(self):
        for options in (["--method", "loftq", "--quantizer", "nf3", "--rank", "5"],
                        ["--method", "lqer", "--quantizer", "int4", "--group-size", "0", "--factor-bits", "32"],
                        ["--method", "qlora", "--quantizer", "int8", "--scale", "fp32", "--rank", "0"]):
            with self.subTest(options=options):
                output = f"out{options[1]}"
                report = self.compress(*options, output=output)
                metadata, tensors = read_all(self.folder / output)
                self.assertEqual((metadata["qlr.format"], metadata["qlr.version"]), ("checkpoint", "1"))
                for name in LAYERS:
                    self.assertNotIn(name, tensors)
                    self.check(report, name, add(*read_qlr(metadata, tensors, name)))
                config = json.loads((self.folder / output / "config.json").read_text())
                self.assertEqual(config["quantization_config"]["quant_method"], "qlr")
                self.assertEqual((self.folder / output / "tokenizer.json").read_text(), '{"version": "1.0"}')

    def test_every_method(self):
        for method in ("qlora", "loftq", "lq-lora", "zeroquant-v2", "lqer", "l2qer", "qera-approx", "qera-exact",
                       "eora", "gptq", "caldera", "svdquant", "srr", "odlri", "gptq-intrinsic", "best"):
            with self.subTest(method=method):
                report = self.compress("--method", method, "--rank", "4", "--include", "k_proj", output=f"out-{method}")
                self.assertEqual(len(report["tensors"]), 2)
                self.assertLess(report["totals"]["relative_error"], 0.7)  # odlri has 2 bits, the others more
                self.assertLess(report["totals"]["bits_per_weight"], 10)

    def test_bitsandbytes_and_peft(self):
        for scale in ("fp32", "dq-bnb"):
            with self.subTest(scale=scale):
                report = self.compress("--store", "bitsandbytes", "--method", "loftq", "--rank", "6", "--scale", scale,
                                       output=f"out-{scale}")
                folder = self.folder / f"out-{scale}"
                _, tensors = read_all(folder)
                _, adapter = read_safetensors(folder / "adapter" / "adapter_model.safetensors")
                for name in LAYERS[:1]:
                    module = f"base_model.model.{name.removesuffix('.weight')}"
                    low_rank = product(matrix_of(adapter[f"{module}.lora_B.weight"]),
                                       matrix_of(adapter[f"{module}.lora_A.weight"]))
                    self.check(report, name, add(read_bitsandbytes(tensors, name), low_rank))
                kept = {entry["name"]: entry["reason"] for entry in report["kept"]}
                self.assertIn("multiple of 64", kept[LAYERS[1]])  # 96 columns
                config = json.loads((folder / "config.json").read_text())["quantization_config"]
                self.assertEqual((config["quant_method"], config["load_in_4bit"]), ("bitsandbytes", True))
                self.assertEqual(config["bnb_4bit_use_double_quant"], scale == "dq-bnb")
                self.assertIn("model.layers.0.mlp.down_proj", config["llm_int8_skip_modules"])
                peft = json.loads((folder / "adapter" / "adapter_config.json").read_text())
                self.assertEqual((peft["r"], peft["lora_alpha"]), (6, 6))

    def test_svdquant(self):
        report = self.compress("--store", "svdquant", "--method", "loftq", "--rank", "6")
        _, tensors = read_all(self.folder / "out")
        entry = self.check(report, LAYERS[0], add(*read_svdquant(tensors, LAYERS[0].removesuffix(".weight"))))
        self.assertEqual((entry["quantizer"], entry["scale"]), ("int4", "bf16"))
        self.check_refused(["in", "o", "--store", "svdquant", "--quantizer", "int4"], "scale is 'fp16'", "bf16")
        self.check_refused(["in", "o", "--store", "svdquant", "--quantizer", "nf4"], "quantizer is 'nf4'", "int4")

    def test_calibration_folder_and_notes(self):
        (self.folder / "stats").mkdir()
        weight = matrix_of(self.weights[LAYERS[0]])
        rms = [1.0 + j % 7 for j in range(len(weight[0]))]
        header = {"rms": {"dtype": "F32", "shape": [len(rms)], "data_offsets": [0, 4 * len(rms)]}}
        text = json.dumps(header).encode()
        self.write(f"stats/{LAYERS[0]}.safetensors",
                   struct.pack("<Q", len(text)) + text + struct.pack(f"<{len(rms)}f", *rms))
        report = self.compress("--method", "qera-approx", "--rank", "4", "--calibration", "stats")
        for entry in report["tensors"]:
            is_known = entry["name"] == LAYERS[0]
            self.assertEqual(entry["metric"], "diagonal" if is_known else "none")
            self.assertEqual([note for note in entry["notes"] if "has no file" in note] == [], is_known)

    def test_plan(self):
        rows, cols = self.shapes[LAYERS[0]]
        plan = {"tensors": [{"name": LAYERS[0], "rows": rows, "cols": cols, "quantizer": "nf2", "group_size": 32,
                             "scale": "fp16", "rank": 3, "factor_bits": 16}]}
        self.write("plan.json", json.dumps(plan).encode())
        report = self.compress("--method", "loftq", "--plan", "plan.json")
        self.assertEqual([(e["name"], e["quantizer"], e["group_size"], e["rank"]) for e in report["tensors"]],
                         [(LAYERS[0], "nf2", 32, 3)])
        plan["tensors"][0]["name"] = "absent"
        self.write("plan.json", json.dumps(plan).encode())
        self.check_refused(["in", "other", "--plan", "plan.json"], "'absent'", "no matrix to compress")

    def test_spectrum(self):
        report = self.compress("--method", "loftq", "--rank", "4", "--include", "k_proj")
        for entry in report["tensors"]:
            values = entry["singular_values"]
            self.assertEqual((len(values), values), (4, sorted(values, reverse=True)))
        metadata, tensors = read_all(self.folder / "out")
        low_rank = read_qlr(metadata, tensors, LAYERS[0])[1]
        values = next(e for e in report["tensors"] if e["name"] == LAYERS[0])["singular_values"]
        self.assert_near(sum(x * x for x in values) ** 0.5, norm(low_rank), 1e-4)
        report = self.compress("--method", "qlora", "--rank", "0", "--include", "k_proj", "--spectrum", "32", output="o")
        values = next(e for e in report["tensors"] if e["name"] == LAYERS[0])["singular_values"]
        self.assertEqual(len(values), 32)  # all of 32 x 64
        self.assert_near(sum(x * x for x in values) ** 0.5, norm(matrix_of(self.weights[LAYERS[0]])), 1e-4)
