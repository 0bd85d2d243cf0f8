# SPDX-FileCopyrightText: 2026 The qlr authors
# SPDX-License-Identifier: MIT
"""Bad input of inspect: exit code 2, one line on standard error, and no file left behind."""

from inspect_support import bitsandbytes_tensors, gguf_bytes
from packed_support import PackedWeight, checkpoint_file, index_bytes, safetensors_file
from support import CommandLineTest, random_matrix, tensor


class RefusalTest(CommandLineTest):
    def refuse(self, arguments: list, *parts: str):
        self.check_refused([*arguments, "--json", "j.json"], *parts)

    def refuse_file(self, name: str, content: bytes, *parts: str):
        self.write(name, content)
        self.refuse([name], *parts)

    def test_options(self):
        self.write("a.safetensors", safetensors_file({"w": tensor([[1.0]])}, {}))
        self.refuse([], "PATH")
        self.refuse(["a.safetensors", "--bogus"], "--bogus")
        self.refuse(["a.safetensors", "--names", "("], "names is '('", "regular expression")
        self.refuse(["a.safetensors", "--names", ""], "--names", "empty")
        self.refuse(["a.safetensors", "--limit", "-1"], "limit is -1", "0 (all rows)")
        self.refuse(["a.safetensors", "--limit", "x"], "--limit")
        self.refuse(["a.safetensors", "--sort", "size"], "sort is 'size'", "file, name, bytes")
        self.check_refused(["a.safetensors", "--json", "no/j.json"], "cannot write", "no/j.json")

    def test_files_that_are_missing_or_of_no_kind(self):
        self.refuse(["none.safetensors"], "none.safetensors", "No such file")
        self.refuse(["."], "neither model.safetensors nor")
        self.refuse_file("a.txt", b"hello, hello", "'a.txt' is of no known kind", ".safetensors", ".gguf")
        self.refuse_file("a.bin", b"", "'a.bin' is of no known kind")

    def test_files_that_are_cut(self):
        whole = {"a.safetensors": safetensors_file({"w": tensor(random_matrix(2, 3))}, {}),
                 "b.gguf": gguf_bytes({"general.type": "model"}, {"w": (0, [2, 3], b"\0" * 24)})}
        for name, content in whole.items():
            for size in (9, 20, len(content) - 1):
                self.refuse_file(name, content[:size], name)
        self.refuse_file("c.npy", b"\x93NUMPY\x01\x00", "c.npy")
        self.refuse_file("d.dat", b"\x01\0\0\0\x03", "d.dat")

    def test_checkpoints_that_contradict_themselves(self):
        weight = PackedWeight(random_matrix(4, 6))
        self.write("model.safetensors", checkpoint_file({"w": tensor([[1.0]])}, {"w": weight}))
        self.refuse(["."], "weight 'w' is compressed and a tensor of its own too")
        weight.rows = 5
        self.write("model.safetensors", checkpoint_file({}, {"w": weight}))
        self.refuse(["."], "w.Q.codes")
        tensors = safetensors_file({}, {"qlr.format": "checkpoint", "qlr.version": "1", "w.qlr.format": "decomposition"})
        self.refuse_file("model.safetensors", tensors, "w.qlr.version")
        tensors = safetensors_file({}, {"qlr.format": "checkpoint", "qlr.version": "7"})
        self.refuse_file("model.safetensors", tensors, "qlr.version is 7")
        self.write("model.safetensors.index.json", index_bytes({"../x.safetensors": ["w"]}))
        self.refuse(["model.safetensors.index.json"], "../x.safetensors", "without '/'")
        self.refuse(["."], "both model.safetensors and model.safetensors.index.json")

    def test_states_of_bitsandbytes(self):
        for changes, part in (({"blocksize": None}, "blocksize"), ({"blocksize": 0}, "blocksize"),
                              ({"blocksize": "64"}, "blocksize"), ({"blocksize": 2**63}, "blocksize"),
                              ({"nested_blocksize": -1}, "nested_blocksize"), ({"shape": None}, "shape"),
                              ({"shape": "x"}, "shape"), ({"shape": [4, -6]}, "shape"), ({"shape": [1] * 17}, "shape"),
                              ({"shape": [2**40, 2**40]}, "bytes of codes"), ({"shape": [4, 7]}, "needs 14 bytes")):
            self.refuse_file("a.safetensors", safetensors_file(bitsandbytes_tensors("w", 4, 6, **changes), {}), part)
        tensors = bitsandbytes_tensors("w", 4, 6)
        state = "w.quant_state.bitsandbytes__nf4"
        for text in (b"", b"{", b"[]", b"\xff", b"[" * 60000):
            tensors[state] = ("U8", [len(text)], text)
            self.refuse_file("a.safetensors", safetensors_file(tensors, {}), f"'{state}'", "not a JSON object")
        tensors[state] = ("U8", [70000], b" " * 70000)
        self.refuse_file("a.safetensors", safetensors_file(tensors, {}), "70000 bytes", "65536")
        tensors = bitsandbytes_tensors("w", 4, 6)
        del tensors["w"]
        self.refuse_file("a.safetensors", safetensors_file(tensors, {}), "'w' is missing")
