# SPDX-FileCopyrightText: 2026 The qlr authors
# SPDX-License-Identifier: MIT
"""Checks the rules about the sources that no compiler checks.

    check_hygiene.py ROOT        prints each violation; exits with 1 when there is one
    check_hygiene.py --self-test breaks every rule in a temporary tree and expects each to be reported
"""

import re
import sys
import tempfile
from pathlib import Path

TREES = ["include", "tests", "benchmarks", "examples", "cmake", ".ci", ".github", "CMakeLists.txt"]
CODE_SUFFIXES = {".hpp", ".cuh", ".cpp", ".cu"}
SUFFIXES = CODE_SUFFIXES | {".h", ".inl", ".cmake", ".txt", ".in", ".py", ".sh", ".yml", ""}
NOT_SOURCES = ("tests/fuzz/corpus/",)
MAX_LINES = 400

# A header includes its own room and rooms of a lower rank.
ROOM_RANK = {"base": 0, "core": 1, "allocate": 2, "quant": 2, "lowrank": 2, "decompose": 3, "matmul": 3,
             "io": 4, "host": 4, "cuda": 4, "train": 5, "umbrella": 6}
BASE_HEADERS = {"qlr/config.hpp", "qlr/version.hpp"}
MAY_PRINT_AND_ABORT = {"include/qlr/core/status.hpp"}

SPDX = re.compile(r"\A(?:#!.*\n)?(?://|#) SPDX-FileCopyrightText: .+\n(?://|#) SPDX-License-Identifier: MIT\n")
INCLUDE = re.compile(r"^[ \t]*#[ \t]*include[ \t]*([<\"])([^>\"]+)[>\"]", re.M)
DEFINE = re.compile(r"^[ \t]*#[ \t]*define[ \t]+(\w+)", re.M)
PRINTS_OR_ABORTS = re.compile(
    r"\bstd::(?:cout|cerr|clog)\b|(?<![\w.>])(?:std::)?(?:f?printf|f?puts|putchar|abort|exit|_Exit|quick_exit)\s*\(")
EIGEN = re.compile(r"(?:unsupported/)?Eigen/")
CUDA = re.compile(r"(?:cuda\w*|cublas\w*|cusolver\w*|curand\w*|mma|nvtx\w*|sm_\w+)\.h$|(?:cub|thrust|cuda|cutlass|nvtx3)/")
COMMENT_OR_LITERAL = re.compile(r'//[^\n]*|/\*.*?\*/|R"(\w*)\(.*?\)\1"|"(?:\\.|[^"\\\n])*"|\'(?:\\.|[^\'\\\n])\'', re.S)


def room_of(header):
    """Room of a header named by its include path, such as qlr/core/types.hpp."""
    parts = header.split("/")
    if len(parts) > 2:
        return parts[1]
    return "base" if header in BASE_HEADERS else "umbrella"


def without_comments_and_literals(text):
    """Removes comments and literals, keeping line breaks and the paths of include lines."""
    def blank(match):
        start = text.rfind("\n", 0, match.start()) + 1
        is_include = re.match(r"[ \t]*#[ \t]*include[ \t]*$", text[start:match.start()])
        return match.group() if is_include else " " + "\n" * match.group().count("\n")
    return COMMENT_OR_LITERAL.sub(blank, text)


def namespace_scope_using(code):
    """Yields the position of each using-directive that is in no function and no class."""
    scopes, statement_start = [], 0
    for token in re.finditer(r"[{};]|\busing\s+namespace\b", code):
        text = token.group()
        if text == "{":
            head = code[statement_start:token.start()]
            scopes.append(re.search(r"\bnamespace\b|\bextern\s*$", head) is not None)
        elif text == "}":
            if scopes:
                scopes.pop()
        elif text != ";" and all(scopes):
            yield token.start()
        statement_start = token.end()


def check_library_header(path, text, include_path):
    code = without_comments_and_literals(text)
    room = room_of(include_path)

    def at(position, message):
        return f"{path}:{code.count(chr(10), 0, position) + 1}: {message}"

    if room not in ROOM_RANK:
        yield f"{path}:1: unknown room '{room}'; add it to ROOM_RANK in check_hygiene.py"
        return
    if "#pragma once" not in code:
        yield f"{path}:1: no #pragma once"
    for match in DEFINE.finditer(code):
        if not match.group(1).startswith("QLR_"):
            yield at(match.start(), f"macro {match.group(1)} does not begin with QLR_")
    for position in namespace_scope_using(code):
        yield at(position, "using namespace at namespace scope")
    if path not in MAY_PRINT_AND_ABORT:
        for match in PRINTS_OR_ABORTS.finditer(code):
            yield at(match.start(), f"prints or ends the process: {match.group().strip('( ')}")
    for match in INCLUDE.finditer(code):
        quote, target = match.groups()
        if quote == '"':
            yield at(match.start(), f'include in quotes: "{target}"; use angle brackets and the full qlr/ path')
        if target == "iostream":
            yield at(match.start(), "includes <iostream>")
        if EIGEN.match(target) and room not in ("host", "train"):
            yield at(match.start(), f"Eigen outside host/ and train/: <{target}>")
        if CUDA.match(target) and room != "cuda":
            yield at(match.start(), f"CUDA outside cuda/: <{target}>")
        if target.startswith(".") or target.split("/")[0] in ROOM_RANK:
            if not CUDA.match(target):
                yield at(match.start(), f"include without the full qlr/ path: <{target}>")
        if target.startswith("qlr/"):
            other = room_of(target)
            if other != room and ROOM_RANK.get(other, 99) >= ROOM_RANK[room]:
                yield at(match.start(), f"layering: {room} includes {other}: <{target}>")
            if other != room and "/detail/" in target:
                yield at(match.start(), f"private header of another room: <{target}>")


def check_umbrella(include_dir, headers):
    """Everything public that needs no CUDA is reachable from qlr.hpp, what trains from train.hpp."""
    todo, reached = ["qlr/qlr.hpp", "qlr/train.hpp"], set()
    while todo:
        header = todo.pop()
        if header in reached or not (include_dir / header).is_file():
            continue
        reached.add(header)
        todo += [target for _, target in INCLUDE.findall((include_dir / header).read_text("utf-8", "replace"))]
    for header in headers:
        is_public_host = header.endswith(".hpp") and "/detail/" not in header and room_of(header) != "cuda"
        if is_public_host and room_of(header) != "umbrella" and header not in reached:
            yield f"include/qlr/qlr.hpp:1: umbrella lacks <{header}>"


def source_files(root):
    for tree in TREES:
        top = root / tree
        for file in [top] if top.is_file() else sorted(top.rglob("*")):
            path = file.relative_to(root).as_posix()
            if file.is_file() and file.suffix in SUFFIXES and "__pycache__" not in path:
                if not path.startswith(NOT_SOURCES):
                    yield file, path


def check(root):
    """Returns every violation as 'path:line: what'."""
    found, headers = [], []
    for file, path in source_files(root):
        text = file.read_bytes().decode("utf-8", "replace")
        lines = text.split("\n")
        for number, line in enumerate(lines, 1):
            if not line.isascii():
                found.append(f"{path}:{number}: not ASCII")
        if not SPDX.match(text):
            found.append(f"{path}:1: no two-line SPDX head")
        if text.count("\n") > MAX_LINES:
            found.append(f"{path}:{MAX_LINES + 1}: {text.count(chr(10))} lines, at most {MAX_LINES} are allowed")
        if path.startswith("include/") and file.suffix in CODE_SUFFIXES:
            include_path = path[len("include/"):]
            headers.append(include_path)
            found += check_library_header(path, text, include_path)
    if (root / "include/qlr/qlr.hpp").is_file():
        found += check_umbrella(root / "include", headers)
    return found


HEAD = "// SPDX-FileCopyrightText: 2026 The qlr authors\n// SPDX-License-Identifier: MIT\n"

# path, content after the head, expected report (None: must be clean)
SELF_TEST = [
    ("core/clean.hpp", "#include <qlr/config.hpp>\n// std::cout, exit( and #define X\n#define QLR_OK 1\n"
     "namespace qlr {\ninline void f() { using namespace std; }\ninline const char* s = \"printf(\";\n}\n", None),
    ("host/clean.hpp", "#include <Eigen/Core>\n#include <qlr/decompose/clean.hpp>\n", None),
    ("decompose/clean.hpp", "#include <qlr/quant/clean.hpp>\n#include <qlr/lowrank/clean.hpp>\n", None),
    ("quant/clean.hpp", "#include <qlr/quant/detail/clean.hpp>\n", None),
    ("quant/detail/clean.hpp", "", None),
    ("lowrank/clean.hpp", "", None),
    ("cuda/clean.cuh", "#include <cuda_runtime.h>\n", None),
    ("core/status.hpp", "inline void g() { std::abort(); }\n", None),
    ("config.hpp", "", None),
    ("qlr.hpp", "#include <qlr/core/clean.hpp>\n#include <qlr/host/clean.hpp>\n#include <qlr/core/status.hpp>\n", None),
    ("core/ascii.hpp", "// \u00b5\n", "not ASCII"),
    ("core/long.hpp", "\n" * 400, "at most 400"),
    ("core/stream.hpp", "#include <iostream>\n", "includes <iostream>"),
    ("core/using.hpp", "namespace qlr {\nusing namespace std;\n}\n", "using namespace"),
    ("core/using_global.hpp", "using namespace std;\n", "using namespace"),
    ("core/cout.hpp", "inline void f() { std::cout << 1; }\n", "prints or ends the process: std::cout"),
    ("core/printf.hpp", "inline void f() { std::printf(\"\"); }\n", "prints or ends the process: std::printf"),
    ("core/abort.hpp", "inline void f() { std::abort(); }\n", "prints or ends the process: std::abort"),
    ("core/exit.hpp", "inline void f() { exit(1); }\n", "prints or ends the process: exit"),
    ("quant/eigen.hpp", "#include <Eigen/Core>\n", "Eigen outside host/ and train/"),
    ("host/cuda.hpp", "#include <cublas_v2.h>\n", "CUDA outside cuda/"),
    ("core/upward.hpp", "#include <qlr/quant/clean.hpp>\n", "layering: core includes quant"),
    ("quant/sideways.hpp", "#include <qlr/lowrank/clean.hpp>\n", "layering: quant includes lowrank"),
    ("host/io.hpp", "#include <qlr/io/file.hpp>\n", "layering: host includes io"),
    ("core/umbrella.hpp", "#include <qlr/qlr.hpp>\n", "layering: core includes umbrella"),
    ("lowrank/private.hpp", "#include <qlr/core/detail/x.hpp>\n", "private header of another room"),
    ("nowhere/room.hpp", "", "unknown room 'nowhere'"),
    ("core/macro.hpp", "#define MAXIMUM 1\n", "macro MAXIMUM"),
    ("core/quotes.hpp", "#include \"qlr/config.hpp\"\n", "include in quotes"),
    ("core/short_path.hpp", "#include <core/clean.hpp>\n", "without the full qlr/ path"),
    ("io/forgotten.hpp", "", "umbrella lacks <qlr/io/forgotten.hpp>"),
]


def self_test():
    failures = []
    with tempfile.TemporaryDirectory() as folder:
        root = Path(folder)

        def write(path, content):
            file = root / path
            file.parent.mkdir(parents=True, exist_ok=True)
            file.write_text(content, "utf-8")

        for name, body, _ in SELF_TEST:
            write(f"include/qlr/{name}", HEAD + "#pragma once\n" + body)
        write("include/qlr/core/no_head.hpp", "#pragma once\n")
        write("include/qlr/core/no_guard.hpp", HEAD)
        write("cmake/no_head.cmake", "# nothing\n")
        reports = check(root)
        for name, _, expected in SELF_TEST:
            of_file = [r for r in reports if r.startswith(f"include/qlr/{name}:") and "umbrella lacks" not in r]
            if expected is None and of_file:
                failures.append(f"{name} is clean, reported: {of_file}")
            if expected is not None and not any(expected in r and name in r for r in reports):
                failures.append(f"{name}: expected '{expected}', reported: {of_file}")
        for report in ["include/qlr/core/no_head.hpp:1: no two-line SPDX head", "cmake/no_head.cmake:1: no two-line SPDX head",
                       "include/qlr/core/no_guard.hpp:1: no #pragma once"]:
            if report not in reports:
                failures.append(f"expected '{report}'")
        if any("umbrella lacks <qlr/core/clean.hpp>" in r for r in reports):
            failures.append("core/clean.hpp is in the umbrella, reported as missing")
    return failures


def main():
    if len(sys.argv) != 2:
        sys.exit(__doc__)
    problems = self_test() if sys.argv[1] == "--self-test" else check(Path(sys.argv[1]))
    for problem in problems:
        print(problem)
    print(f"{len(problems)} problem(s)")
    return 1 if problems else 0


if __name__ == "__main__":
    sys.exit(main())
