# SPDX-FileCopyrightText: 2026 The qlr authors
# SPDX-License-Identifier: MIT
"""What compress_checkpoint writes is read by readers of its own, in plain Python: the error they find is the one
that the report says."""

import json
import math
import struct

from checkpoint_support import CheckpointTest, read_all, write_llama
from support import Matrix, add, norm, product, read_safetensors, relative_error

HEADS = 1  # key heads of the small model
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


class Gguf:
    """Metadata numbers and texts, and matrices of a GGUF file."""

    def __init__(self, content: bytes):
        self.content, self.at = content, 4
        version, tensors, values = self.take("<IQQ")
        assert content[:4] == b"GGUF" and version == 3
        self.metadata = {self.text(): self.value() for _ in range(values)}
        infos = [(self.text(), self.take(f"<{self.take('<I')[0]}Q"), *self.take("<IQ")) for _ in range(tensors)]
        start = (self.at + 31) // 32 * 32
        self.tensors = {name: self.matrix(shape, kind, start + offset) for name, shape, kind, offset in infos}

    def take(self, layout: str) -> tuple:
        values = struct.unpack_from(layout, self.content, self.at)
        self.at += struct.calcsize(layout)
        return values

    def text(self) -> str:
        length, = self.take("<Q")
        self.at += length
        return self.content[self.at - length:self.at].decode()

    def value(self):
        kind, = self.take("<I")
        return self.text() if kind == 8 else self.take("<" + {4: "I", 6: "f", 7: "?"}[kind])[0]

    def matrix(self, shape: tuple, kind: int, at: int) -> Matrix:
        cols, count = shape[0], math.prod(shape)
        if kind in (0, 1, 30):  # F32, F16, BF16
            name, size = {0: ("F32", 4), 1: ("F16", 2), 30: ("BF16", 2)}[kind]
            flat = values_of((name, None, self.content[at:at + size * count]))
        else:  # Q4_0, Q8_0
            flat, size = [], {2: 18, 8: 34}[kind]
            for begin in range(at, at + count // 32 * size, size):
                scale, = struct.unpack_from("<e", self.content, begin)
                block = self.content[begin + 2:begin + size]
                if kind == 2:
                    codes = [byte & 15 for byte in block] + [byte >> 4 for byte in block]
                    flat += [(code - 8) * scale for code in codes]
                else:
                    flat += [code * scale for code in struct.unpack("<32b", block)]
        return [flat[i:i + cols] for i in range(0, count, cols)]


def checkpoint_rows(rows: Matrix, heads: int) -> Matrix:
    """From the order of GGUF files, pairs side by side, to that of checkpoints, halves of a head."""
    head = len(rows) // heads
    return [rows[h * head + 2 * (i % (head // 2)) + i // (head // 2)] for h in range(heads) for i in range(head)]


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

    def test_every_method_on_a_llama_of_width_512(self):
        write_llama(self.folder / "in", layers=4, hidden=512, inner=1376, vocabulary=1000, kv=256, shards=3)
        _, self.weights = read_all(self.folder / "in")
        name, num_read = "model.layers.3.self_attn.k_proj.weight", 0
        for method in ("qlora", "loftq", "lq-lora", "zeroquant-v2", "lqer", "l2qer", "qera-approx", "qera-exact",
                       "eora", "gptq", "caldera", "svdquant", "srr", "odlri", "gptq-intrinsic", "best"):
            with self.subTest(method=method):
                output = f"out-{method}"
                report = self.compress("--method", method, "--rank", "4", "--include", "layers.3.self_attn.k_proj", output=output)
                self.assertLess(report["totals"]["relative_error"], 0.7)  # odlri has 2 bits, the others more
                self.assertLess(report["totals"]["bits_per_weight"], 10)
                metadata, tensors = read_all(self.folder / output)
                self.assertEqual(len(report["tensors"]) + len(report["kept"]), len(self.weights))
                has_zeros = metadata[f"{name}.Q.zeros"] != "none"
                if report["tensors"][0]["scale"] == "fp16" and not has_zeros:  # what the small reader here knows
                    self.check(report, name, add(*read_qlr(metadata, tensors, name)))
                    num_read += 1
        self.assertGreater(num_read, 7)

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

    def test_gguf(self):
        for quantizer, file_type in (("q4_0", 2), ("q8_0", 7)):
            with self.subTest(quantizer=quantizer):
                report = self.compress("--store", "gguf", "--method", "loftq", "--rank", "6", "--quantizer", quantizer,
                                       output=quantizer)
                model = Gguf((self.folder / quantizer / "model.gguf").read_bytes())
                adapter = Gguf((self.folder / quantizer / "adapter.gguf").read_bytes())
                self.assertEqual(model.metadata["general.architecture"], "llama")
                self.assertEqual(model.metadata["general.file_type"], file_type)
                self.assertEqual(model.metadata["llama.embedding_length"], 64)
                self.assertEqual((adapter.metadata["general.type"], adapter.metadata["adapter.lora.alpha"]), ("adapter", 0.0))
                self.assertEqual(len(model.tensors), len(self.shapes))
                self.assertEqual(model.tensors["token_embd.weight"], matrix_of(self.weights["model.embed_tokens.weight"]))
                self.assertEqual(model.tensors["blk.1.ffn_norm.weight"][0],
                                 values_of(self.weights["model.layers.1.post_attention_layernorm.weight"]))
                for name, stored, heads in ((LAYERS[0], "blk.1.attn_k.weight", HEADS), (LAYERS[1], "blk.0.ffn_down.weight", 0)):
                    sum_of_both = add(model.tensors[stored], product(adapter.tensors[stored + ".lora_b"],
                                                                     adapter.tensors[stored + ".lora_a"]))
                    self.check(report, name, checkpoint_rows(sum_of_both, heads) if heads else sum_of_both)

    def test_gguf_refuses_other_models(self):
        config = json.loads((self.folder / "in" / "config.json").read_text())
        for change, part in (({"architectures": ["GPT2LMHeadModel"]}, "GPT2LMHeadModel"),
                             ({"rope_scaling": {"factor": 2}}, "rope_scaling"), ({"num_attention_heads": None}, "num_attention_heads")):
            self.write("in/config.json", json.dumps({**config, **change}).encode())
            self.check_refused(["in", "out", "--store", "gguf"], part)
        self.check_refused(["in", "out", "--store", "gguf", "--quantizer", "nf4"], "quantizer is 'nf4'", "q4_0")
        self.check_refused(["in", "out", "--gguf-vocabulary", "x"], "--store gguf")

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

    def test_importance_matrix(self):
        name, cols = b"blk.1.attn_k.weight", self.shapes[LAYERS[0]][1]
        self.write("i.dat", struct.pack("<ii", 1, len(name)) + name + struct.pack("<ii", 3, cols) +
                   struct.pack(f"<{cols}f", *(3.0 + j % 5 for j in range(cols))))
        report = self.compress("--method", "qera-approx", "--rank", "4", "--calibration", "i.dat")
        for entry in report["tensors"]:
            is_known = entry["name"] == LAYERS[0]
            self.assertEqual(entry["metric"], "diagonal" if is_known else "none")
            self.assertEqual(any("has no entry" in note for note in entry["notes"]), not is_known)

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
