#!/usr/bin/env python3
# SPDX-FileCopyrightText: 2026 The qlr authors
# SPDX-License-Identifier: MIT
"""Compares files that write_formats wrote with what numpy, bitsandbytes and PEFT make of them.

Without numpy everything is skipped (exit code 77). With numpy alone the weights are decoded by the description of
the format. With torch and bitsandbytes they are decoded by bitsandbytes on the CPU, and decode_bitsandbytes decodes
what bitsandbytes quantized; both must agree bit for bit in float32. With torch and peft the adapter is loaded.

    pip install numpy torch bitsandbytes peft safetensors
    write_formats FOLDER && bitsandbytes_test.py FOLDER --decoder PATH/decode_bitsandbytes
"""

import argparse
import importlib
import json
import pathlib
import struct
import subprocess
import sys
import tempfile
import warnings

SKIPPED = 77
STATE = ".quant_state.bitsandbytes__"


def find_module(name):
    """The module, or None where it is not installed or cannot be loaded; says so."""
    try:
        with warnings.catch_warnings():
            warnings.simplefilter("ignore")
            return importlib.import_module(name)
    except Exception as problem:  # a package of this size fails in many ways
        print(f"SKIPPED: {name} cannot be imported: {type(problem).__name__}: {problem}")
        return None


def read_safetensors(np, path):
    """Tensors by name; F32, U8 and I8."""
    content = path.read_bytes()
    (length,) = struct.unpack_from("<Q", content)
    header = json.loads(content[8:8 + length])
    header.pop("__metadata__", None)
    kinds = {"F32": np.float32, "U8": np.uint8, "I8": np.int8}
    return {name: np.frombuffer(content[8 + length:][slice(*entry["data_offsets"])], kinds[entry["dtype"]])
            .reshape(entry["shape"]) for name, entry in header.items()}


def examples(folder):
    paths = [path for path in sorted((folder / "bitsandbytes").glob("*.safetensors")) if ".decoded." not in path.name]
    if not paths:
        sys.exit(f"{folder} holds no bitsandbytes/*.safetensors; run write_formats {folder}")
    return [(path, path.with_suffix(".decoded.safetensors")) for path in paths]


def compare(np, what, expected, found):
    """Equality of every bit but the sign of zero."""
    if expected.shape != found.shape or not np.array_equal(expected, found):
        worst = np.abs(expected - found).max() if expected.shape == found.shape else "another shape"
        sys.exit(f"FAILED: {what}: {expected.shape} and {found.shape} differ, by at most {worst}")
    print(f"equal: {what} {found.shape}")


def decode_by_description(np, tensors, name):
    (key,) = [key for key in tensors if key.startswith(name + STATE)]
    state = json.loads(tensors[key].tobytes())
    count = int(np.prod(state["shape"]))
    packed = tensors[name].reshape(-1)
    codes = np.stack([packed >> 4, packed & 15], axis=1).reshape(-1)[:count]
    scales = tensors[name + ".absmax"]
    if name + ".nested_absmax" in tensors:
        blocks = np.arange(scales.size) // state["nested_blocksize"]
        products = tensors[name + ".nested_quant_map"][scales] * tensors[name + ".nested_absmax"][blocks]
        scales = products + np.float32(state["nested_offset"])
    values = tensors[name + ".quant_map"][codes] * scales[np.arange(count) // state["blocksize"]]
    return values.reshape(state["shape"])


def check_description(np, folder):
    for path, decoded in examples(folder):
        found = decode_by_description(np, read_safetensors(np, path), "layer.weight")
        compare(np, f"numpy decodes {path.stem} as we do", read_safetensors(np, decoded)["decoded"], found)


def check_bitsandbytes_reads(np, torch, bitsandbytes, folder):
    from safetensors.torch import load_file
    functional = bitsandbytes.functional
    for path, decoded in examples(folder):
        tensors = load_file(str(path))
        packed = tensors.pop("layer.weight")
        state = functional.QuantState.from_dict(dict(tensors), device=torch.device("cpu"))
        found = functional.dequantize_4bit(packed, state).numpy()
        compare(np, f"bitsandbytes decodes {path.stem} as we do", read_safetensors(np, decoded)["decoded"], found)


def check_we_read(np, torch, bitsandbytes, decoder):
    from safetensors.torch import save_file
    functional = bitsandbytes.functional
    generator = torch.Generator().manual_seed(1)
    tensors, expected = {}, {}
    for rows, cols in ((8, 192), (80, 512), (3, 33), (5, 100), (1, 1)):
        for kind in ("nf4", "fp4"):
            for nested in (False, True):
                for storage in (torch.uint8, torch.bfloat16):
                    if storage != torch.uint8 and rows * cols % 4 != 0:
                        continue  # bitsandbytes drops bytes there
                    name = f"{kind}_{rows}x{cols}_{'nested' if nested else 'plain'}_{storage}.weight"
                    weight = torch.randn(rows, cols, generator=generator)
                    packed, state = functional.quantize_4bit(
                        weight, blocksize=64, quant_type=kind, compress_statistics=nested, quant_storage=storage)
                    tensors[name] = packed
                    tensors.update({f"{name}.{key}": part.clone() for key, part in state.as_dict(packed=True).items()})
                    expected[name] = functional.dequantize_4bit(packed, state).numpy()
    codes, scales, _ = functional.int8_vectorwise_quant(torch.randn(7, 40, generator=generator).half())
    tensors.update({"int8.weight": codes, "int8.SCB": scales, "int8.weight_format": torch.tensor(0, dtype=torch.uint8)})
    expected["int8.weight"] = functional.int8_vectorwise_dequant(codes, scales).numpy()
    with tempfile.TemporaryDirectory() as folder:
        source, target = pathlib.Path(folder, "source.safetensors"), pathlib.Path(folder, "target.safetensors")
        save_file(tensors, str(source))
        subprocess.run([decoder, source, target], check=True)
        found = read_safetensors(np, target)
    if sorted(found) != sorted(expected):
        sys.exit(f"FAILED: decoded {sorted(found)}, bitsandbytes wrote {sorted(expected)}")
    for name, values in expected.items():
        compare(np, f"we decode {name} as bitsandbytes does", values, found[name])


def make_model(torch):
    """A model with more modules than the adapter has."""
    def block(names):
        return torch.nn.ModuleDict({name: torch.nn.Linear(24, 24, bias=False) for name in names})

    class Model(torch.nn.Module):
        def __init__(self):
            super().__init__()
            self.config = {"model_type": "tiny"}
            self.model = torch.nn.ModuleDict({"layers": torch.nn.ModuleList(
                torch.nn.ModuleDict({"self_attn": block(["q_proj", "k_proj"]), "mlp": block(["up_proj"])})
                for _ in range(12))})
            self.lm_head = torch.nn.Linear(24, 24, bias=False)

        def prepare_inputs_for_generation(self, *_, **__):
            raise NotImplementedError

    return Model()


def check_adapter(np, torch, peft, folder):
    products = read_safetensors(np, folder / "peft_products.safetensors")
    with warnings.catch_warnings():
        warnings.simplefilter("error")  # about keys that are missing or left over
        model = peft.PeftModel.from_pretrained(make_model(torch), str(folder / "peft"))
    layers = {name.removeprefix("base_model.model."): layer for name, layer in model.named_modules()
              if isinstance(layer, peft.tuners.lora.LoraLayer)}
    if sorted(layers) != sorted(products):
        sys.exit(f"FAILED: PEFT adapts {sorted(layers)}, the adapter is for {sorted(products)}")
    for name, product in products.items():
        layer, inputs = layers[name], torch.eye(24)
        with torch.no_grad():
            added = (layer(inputs) - layer.base_layer(inputs)).T.numpy()
            delta = layer.get_delta_weight("default").numpy()
        for what, found, bound in (("delta", delta, 1e-6), ("output", added, 2e-6)):
            error = np.abs(found - product).max() / np.abs(product).max()
            if not error <= bound:
                sys.exit(f"FAILED: PEFT's {what} of {name} differs by {error:.2e} of the largest entry")
            print(f"equal: PEFT's {what} of {name} to {error:.1e}")


def main():
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("folder", type=pathlib.Path, help="what write_formats wrote")
    parser.add_argument("--decoder", help="the program decode_bitsandbytes")
    arguments = parser.parse_args()
    np = find_module("numpy")
    if np is None:
        return SKIPPED
    check_description(np, arguments.folder)
    torch = find_module("torch")
    bitsandbytes = find_module("bitsandbytes") if torch else None
    peft = find_module("peft") if torch else None
    if bitsandbytes:
        print(f"torch {torch.__version__}, bitsandbytes {bitsandbytes.__version__}")
        check_bitsandbytes_reads(np, torch, bitsandbytes, arguments.folder)
        if arguments.decoder:
            check_we_read(np, torch, bitsandbytes, arguments.decoder)
    if peft:
        print(f"torch {torch.__version__}, peft {peft.__version__}")
        check_adapter(np, torch, peft, arguments.folder)
    return 0 if bitsandbytes and peft else SKIPPED


if __name__ == "__main__":
    sys.exit(main())
