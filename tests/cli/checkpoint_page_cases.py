# SPDX-FileCopyrightText: 2026 The qlr authors
# SPDX-License-Identifier: MIT
"""What the page of compress_checkpoint must be: whole HTML that shows every tensor and refers to nothing outside."""

import html.parser
import math
import re
import unittest
import xml.etree.ElementTree

from checkpoint_support import PAGE, CheckpointTest
from support import random_matrix, safetensors_bytes, tensor

VOID = {"meta", "wbr"}
ALLOWED = {"html", "head", "meta", "title", "style", "body", "main", "h1", "h2", "h3", "p", "code", "div", "dl", "dt",
           "dd", "small", "ul", "ol", "li", "figure", "figcaption", "table", "thead", "tbody", "tr", "th", "td", "span",
           "wbr", "svg", "g", "path", "text"}
ATTRIBUTES = {"lang", "charset", "name", "content", "class", "xmlns", "viewbox", "role", "aria-label", "d", "x", "y",
              "text-anchor"}
SVG_NAMESPACE = "http://www.w3.org/2000/svg"
NO_NUMBER = re.compile(r"(?<![\w.])[-+]?(?:nan|inf|infinity)(?![\w.])", re.IGNORECASE)
CONTROL = re.compile("[\x00-\x09\x0b-\x1f\x7f-\x9f\u061c\u200b-\u200f\u2028-\u202e\u2060-\u206f\ufeff\ufffe\uffff]")


class Page(html.parser.HTMLParser):
    """Counts the elements; refuses unbalanced ones and any that the page does not need."""

    def __init__(self, text: str):
        super().__init__()
        self.open, self.tags, self.data, self.rows = [], [], [], []
        self.feed(text)
        self.close()
        if self.open:
            raise ValueError(f"not closed: {self.open}")

    def handle_starttag(self, tag, attributes):
        if tag not in ALLOWED:
            raise ValueError(f"element {tag}")
        for name, value in attributes:
            if name not in ATTRIBUTES:
                raise ValueError(f"attribute {name} of {tag}: {value!r}")
        self.tags.append(tag)
        if tag == "tr":
            self.rows.append([])
        if tag in ("td", "th"):
            self.rows[-1].append("")
        if tag not in VOID:
            self.open.append(tag)

    def handle_startendtag(self, tag, attributes):
        if tag != "path":
            raise ValueError(f"element {tag} ends itself")
        self.handle_starttag(tag, attributes)
        self.open.pop()

    def handle_endtag(self, tag):
        if not self.open or self.open.pop() != tag:
            raise ValueError(f"unexpected end of {tag}")

    def handle_data(self, data):
        if "style" in self.open:
            return
        self.data.append(data)
        if "td" in self.open or "th" in self.open:
            self.rows[-1][-1] += data

    def handle_comment(self, data):
        raise ValueError(f"comment {data!r}")


def shown(name: str) -> str:
    """A name as the page shows it."""
    def replaced(match):
        code = ord(match.group())
        return f"\\x{code:02x}" if code < 0x80 else f"\\u{{{code:x}}}"
    return re.sub("[\x0a]|" + CONTROL.pattern, replaced, name)


def drawings(text: str) -> list:
    """The SVG parts, read as XML."""
    return [xml.etree.ElementTree.fromstring(part) for part in re.findall(r"<svg .*?</svg>", text, re.S)]


def points(path) -> list:
    return [(float(x), float(y)) for x, y in re.findall(r"[ML](-?[0-9.]+) (-?[0-9.]+)", path.get("d"))]


def check_drawing(case: unittest.TestCase, drawing):
    """Every point lies in the frame."""
    width, height = map(float, drawing.get("viewBox").split()[2:])
    for path in drawing.iter(f"{{{SVG_NAMESPACE}}}path"):
        case.assertRegex(path.get("d"), r"\A[-MLlmahvz0-9. ]+\Z")
        for x, y in points(path):
            case.assertTrue(0 <= x <= width and 0 <= y <= height, path.get("d"))
    for text in drawing.iter(f"{{{SVG_NAMESPACE}}}text"):
        case.assertTrue(0 <= float(text.get("x")) <= width and 0 <= float(text.get("y")) <= height, text.text)


def finite(tensor: dict, key: str) -> bool:
    value = tensor.get(key)
    return isinstance(value, (int, float)) and abs(value) <= 1e30


def value_of(path) -> float:
    return float(path.find(f"{{{SVG_NAMESPACE}}}title").text.rsplit(": ", 1)[1])


def marks_of(drawing) -> list:
    return [path for path in drawing.iter(f"{{{SVG_NAMESPACE}}}path") if len(path)]


def check_scale(case: unittest.TestCase, drawing):
    """Values are where the numbers at the upright axis say, which is linear or logarithmic."""
    numbers = [(float(text.text), float(text.get("y")) - 4) for text in drawing.iter(f"{{{SVG_NAMESPACE}}}text")
               if text.get("text-anchor") == "end"]
    (low, bottom), (high, top) = max(numbers, key=lambda n: n[1]), min(numbers, key=lambda n: n[1])
    scales = [lambda value: (value - low) / (high - low)]
    if low > 0:
        scales.append(lambda value: math.log(value / low) / math.log(high / low))
    pairs = numbers + [(value_of(path), points(path)[-1][1]) for path in marks_of(drawing)]
    for is_log, scale in enumerate(scales):
        distances = [abs(bottom + scale(value) * (top - bottom) - y) for value, y in pairs if value > 0 or not is_log]
        if max(distances) < 1:
            return
    case.fail(f"values are not where the axis says: {distances}")


def check_depth(case: unittest.TestCase, drawing):
    """Layers of one kind stand in the order of their blocks."""
    places = {}
    for path in marks_of(drawing):
        name = path.find(f"{{{SVG_NAMESPACE}}}title").text.rsplit(": ", 1)[0]
        found = re.fullmatch(r"model\.layers\.([0-9]+)\.(.*)", name)
        if found:
            places.setdefault(found[2], []).append((int(found[1]), points(path)[0][0]))
    for kind in map(sorted, places.values()):
        for (_, x), (_, other) in zip(kind, kind[1:]):
            case.assertLess(x, other)


def check_marks(case: unittest.TestCase, page: str, report: dict):
    """A mark for each layer, up to 2000, in both charts along the depth; a line for each spectrum, up to 60 a kind."""
    layers = report["tensors"]
    parts = page.split("<h2>")
    for part, key in ((parts[1], "relative_error"), (parts[2], "bits_per_weight")):
        values = sorted(t[key] for t in layers if finite(t, key))
        if not values:
            continue
        drawing = drawings(part)[-1]
        shown_values = sorted(map(value_of, marks_of(drawing)))
        case.assertEqual(len(shown_values), min(2000, len(values)), key)
        for value, expected in ((shown_values[0], values[0]), (shown_values[-1], values[-1])):
            case.assertLessEqual(abs(value - expected), 5.1e-4 * abs(expected), key)
        check_scale(case, drawing)
        check_depth(case, drawing)
        counts = re.findall(r" \(([0-9]+)\)</li>", part[:part.index('<div class="wide">')])
        case.assertEqual(sum(map(int, counts)), len(layers))
    spectra = [t["singular_values"] for t in layers]
    expected = {f"{s[-1] / s[0]:.4g}" for s in spectra if s and all(v and 1e-8 < v / s[0] < 1e8 for v in s)}
    found = [path for drawing in drawings(parts[3]) for path in marks_of(drawing)]
    case.assertTrue(min(60, len(expected)) <= len(found) <= len(spectra), (len(found), len(expected)))
    if expected and len(layers) <= 60:
        case.assertLessEqual(expected, {f"{value_of(path):.4g}" for path in found})
    for drawing in drawings(parts[3]):
        check_scale(case, drawing)
        case.assertLessEqual(len(marks_of(drawing)), 60)


def check_head(case: unittest.TestCase, page: Page, report: dict):
    """Totals, settings and notes are told."""
    totals = report["totals"]
    if totals["compressed_weights"]:
        for title, key in (("Bits per weight", "bits_per_weight"), ("Relative error", "relative_error")):
            case.assertEqual(float(page.data[page.data.index(title) + 1]), float(f"{totals[key]:.4g}"))
    for key in ("method", "quantizer", "rank", "factor_bits", "format", "seed", "qlr_version"):
        if report[key] is not None:
            case.assertIn(shown(str(report[key])), page.data, key)
    case.assertIn(f"{report['threads']} threads \u00d7 {report['processes']} processes", page.data)
    for note in {note for t in report["tensors"] for note in t["notes"]}:
        case.assertIn(shown(note), [text.removesuffix(" ") for text in page.data] + page.data)


def check_tables(case: unittest.TestCase, page: Page, report: dict):
    """A row for each tensor, in the order of the report."""
    layers = [row for row in page.rows if len(row) > 5 and row[0] != "layer"]
    kept = [row for row in page.rows if len(row) == 5 and row[0] != "tensor"]
    case.assertEqual([row[0] for row in layers], [shown(t["name"]) for t in report["tensors"]])
    case.assertEqual([row[0] for row in kept], [shown(t["name"]) for t in report["kept"]])
    case.assertEqual([row[4] for row in kept], [shown(t["reason"]) for t in report["kept"]])
    for row, tensor in zip(layers, report["tensors"]):
        case.assertEqual(row[1], f"{tensor['rows']} \u00d7 {tensor['cols']}")
        for column, key in ((5, "bits_per_weight"), (7, "relative_error")):
            if finite(tensor, key):
                case.assertLessEqual(abs(float(row[column]) - tensor[key]), 5.1e-4 * abs(tensor[key]), tensor["name"])
            else:
                case.assertEqual(row[column], "\u2013")


def check_page(case: unittest.TestCase, text: str, report: dict):
    """All that holds for the page of any report whose numbers of the shapes are whole."""
    page = Page(text)
    case.assertTrue(text.startswith("<!DOCTYPE html>") and text.endswith("</html>\n"))
    case.assertEqual(page.tags.count("body"), 1)
    without_namespace = text.replace(f'xmlns="{SVG_NAMESPACE}"', "")
    names = [report["input"], report["output"], *(t["name"] for t in report["tensors"] + report["kept"])]
    if not any(word in name for name in names for word in ("http", "url(", "@import")):
        case.assertNotRegex(without_namespace, r"https?:|url\(|@import|//")
    case.assertIsNone(CONTROL.search(text))
    if not any(NO_NUMBER.search(name) for name in names):
        case.assertIsNone(NO_NUMBER.search(" ".join(page.data)))
    case.assertIn(shown(report["input"]), "".join(page.data))
    for drawing in drawings(text):
        check_drawing(case, drawing)
    check_head(case, page, report)
    check_tables(case, page, report)
    if report["tensors"]:
        check_marks(case, text, report)
    else:
        case.assertNotIn("<svg", text)
        case.assertIn("No layer was compressed.", page.data)


HOSTILE = ["</svg><script>alert(1)</script>.weight", "\"onload='alert(1)'&amp;<b>.weight", "a\x01b\x1b[31m\x7f.weight",
           "layers.99999999999999999999.\u202egpj.weight", "layers.7.\n.weight", "]]>-->.weight", "0.1.weight",
           "\u00e9 \u6f22 \U0001f600.weight"]


class PageTest(CheckpointTest):
    def check(self, *options) -> str:
        report = self.compress(*options, "--quiet")
        text = (self.folder / "out" / PAGE).read_bytes().decode()
        check_page(self, text, report)
        return text

    def test_layers_of_a_network(self):
        text = self.check("--method", "zeroquant-v2", "--rank", "16")
        for kind in ("q_proj", "k_proj", "v_proj", "o_proj", "gate_proj", "up_proj", "down_proj"):
            self.assertIn(f" {kind} (2)</li>", text)
            self.assertIn(f"<h3>{kind}</h3>", text)

    def test_one_layer_of_rank_0_has_no_spectrum(self):
        text = self.check("--method", "qlora", "--rank", "0", "--include", "layers\\.1\\.mlp\\.down_proj")
        self.assertIn("No layer has singular values above zero.", text)

    def test_one_singular_value(self):
        text = self.check("--method", "zeroquant-v2", "--rank", "1", "--include", "lm_head")
        self.assertIn("<h3>lm_head</h3>", text)

    def test_names_are_shown_and_do_nothing(self):
        (self.folder / "in" / "model.safetensors.index.json").unlink()
        for path in (self.folder / "in").glob("*.safetensors"):
            path.unlink()
        tensors = {name: tensor(random_matrix(24, 32, i)) for i, name in enumerate(HOSTILE)}
        tensors["<i>kept</i>"] = tensor(random_matrix(1, 8), shape=[8])
        self.write("in/model.safetensors", safetensors_bytes(tensors))
        text = self.check("--method", "zeroquant-v2", "--rank", "2")
        self.assertNotIn("<script", text)
        self.assertIn("&lt;i&gt;kept&lt;/i&gt;", text)
