# SPDX-FileCopyrightText: 2026 The qlr authors
# SPDX-License-Identifier: MIT
"""Plans of allocate_bits: sums, sizes, bounds, and what the options change."""

import itertools
import json
import math

from support import CommandLineTest, norm, random_matrix, safetensors_bytes, tensor

SHAPES = {"a": (24, 64), "b": (40, 96), "blocks.0.c": (16, 128)}
FACTORS = {"a": 0.2, "b": 1.0, "blocks.0.c": 5.0}  # how strong the weights of a tensor are


class PlanTest(CommandLineTest):
    def setUp(self):
        super().setUp()
        self.weights = {}
        for seed, (name, (rows, cols)) in enumerate(SHAPES.items()):
            self.weights[name] = [[FACTORS[name] * v for v in row] for row in random_matrix(rows, cols, seed)]
        tensors = {name: tensor(values) for name, values in self.weights.items()}
        tensors["norm"] = tensor([[1.0] * 64], shape=[64])
        tensors["table"] = tensor([[1, 2], [3, 4]], "U8")
        tensors["embed"] = tensor(random_matrix(8, 64, 9), "BF16")
        self.write("m.safetensors", safetensors_bytes(tensors))

    def plan(self, *options) -> dict:
        return self.run_json("m.safetensors", "--exclude", "embed", *options)

    def check_sums(self, report: dict, names: list):
        self.assertEqual([t["name"] for t in report["tensors"]], names)
        weights = sum(t["rows"] * t["cols"] for t in report["tensors"])
        self.assertEqual(report["num_weights"], weights)
        self.assertEqual(report["bytes"], sum(t["bytes"] for t in report["tensors"]))
        self.assertEqual(report["budget_bytes"], math.floor(report["budget_bits_per_weight"] * weights / 8))
        self.assertLessEqual(report["bytes"], report["budget_bytes"])
        self.assert_near(report["bits_per_weight"], 8 * report["bytes"] / weights)
        self.assert_near(report["squared_error"], math.fsum(t["squared_error"] for t in report["tensors"]))
        self.assert_near(report["cost"], math.fsum(t["cost_weight"] * t["squared_error"] for t in report["tensors"]))
        self.assertLessEqual(report["linear_bound"], report["cost"])
        self.assertTrue(report["is_proven"])
        self.assertEqual((report["lower_bound"], report["gap_rel"]), (report["cost"], 0.0))
        if report["uniform"] is not None:
            self.assertLessEqual(report["cost"], report["uniform"]["cost"] * (1 + 1e-12))
            self.assertLessEqual(report["uniform"]["bytes"], report["budget_bytes"])

    def test_the_plan_is_within_the_budget_and_never_worse_than_uniform(self):
        costs = []
        for budget in (2.2, 2.5, 3, 4, 6, 9):
            report = self.plan("--budget", budget, "--ranks", "0,2")
            self.check_sums(report, list(SHAPES))
            costs.append(report["cost"])
        self.assertEqual(costs, sorted(costs, reverse=True))

    def test_strong_tensors_get_more_bits_and_relative_costs_do_not_see_strength(self):
        def bits(report):
            return {t["name"]: t["bits_per_weight"] for t in report["tensors"]}

        absolute = bits(self.plan("--budget", 3))
        self.assertLess(absolute["a"], absolute["b"])
        self.assertLess(absolute["b"], absolute["blocks.0.c"])
        relative = self.plan("--budget", 3, "--cost", "relative")
        for t in relative["tensors"]:
            energy = norm(self.weights[t["name"]]) ** 2
            self.assert_near(t["cost_weight"], 1 / energy)
            self.assert_near(t["relative_error"], math.sqrt(t["squared_error"] / energy))
        self.assertGreater(bits(relative)["a"], absolute["a"])
        self.assertLess(bits(relative)["blocks.0.c"], absolute["blocks.0.c"])

    def test_weights_steer_the_bits(self):
        self.write("weights.json", json.dumps({"a": 1e6, "b": 1e-6, "blocks.0.c": 1e-6, "unused": 1}).encode())
        report = self.plan("--budget", 3.5, "--weights", "weights.json")
        self.check_sums(report, list(SHAPES))
        by_name = {t["name"]: t for t in report["tensors"]}
        self.assertGreater(by_name["a"]["bits_per_weight"], 8)
        self.assertLess(by_name["b"]["bits_per_weight"], 3)

    def test_a_fisher_matrix_changes_the_costs(self):
        ones = {name: tensor([[4.0] * cols for _ in range(rows)]) for name, (rows, cols) in SHAPES.items()}
        self.write("fisher.safetensors", safetensors_bytes(ones))
        plain = self.plan("--budget", 3)
        weighted = self.plan("--budget", 3, "--fisher", "fisher.safetensors")
        self.check_sums(weighted, list(SHAPES))
        self.assert_near(weighted["cost"], 4 * plain["cost"])

    def test_a_plan_is_the_best_of_all_combinations(self):
        """Every tensor alone at its own bytes tells its costs; all combinations of them are tried."""
        options = ("--grid", "small", "--ranks", "0")
        single = {}
        for name in SHAPES:
            found = {}
            for step in range(20, 90):
                report = self.run_json("m.safetensors", "--tensors", name, "--budget", 2.12 + step * 0.1 - 1.9, *options)
                found[report["bytes"]] = report["cost"]
            single[name] = found
        for budget in (2.3, 3.1, 4.4):
            report = self.plan("--budget", budget, *options)
            best = min(math.fsum(c for _, c in combination)
                       for combination in itertools.product(*(f.items() for f in single.values()))
                       if sum(b for b, _ in combination) <= report["budget_bytes"])
            self.assert_near(report["cost"], best, 1e-12)

    def test_names_and_patterns_choose_the_tensors(self):
        report = self.run_json("m.safetensors", "--tensors", "b*,*.c", "--budget", 4, "--grid", "small")
        self.check_sums(report, ["b", "blocks.0.c"])
        report = self.run_json("m.safetensors", "--exclude", "*b*", "--budget", 4, "--grid", "small")
        self.check_sums(report, ["a"])
        report = self.run_json("m.safetensors", "--budget", 4, "--grid", "small")
        self.check_sums(report, [*SHAPES, "embed"])

    def test_the_plan_file_is_the_report_and_the_same_on_any_number_of_threads(self):
        base = ("m.safetensors", "--exclude", "embed", "--budget", "3.3", "--ranks", "0,4")
        for threads in (1, 3):
            self.run_ok(*base, "--threads", threads, "--output", f"p{threads}.json", "--json", "r.json", "--quiet")
        plan = (self.folder / "p1.json").read_bytes()
        self.assertEqual(plan, (self.folder / "p3.json").read_bytes())
        report = json.loads((self.folder / "r.json").read_bytes())
        for key, value in json.loads(plan).items():
            self.assertEqual(report[key], value, key)

    def test_a_whole_decomposition_costs_less_than_its_first_step(self):
        fast = self.plan("--budget", 6, "--grid", "small", "--ranks", "4")
        full = self.plan("--budget", 6, "--grid", "small", "--ranks", "4", "--method", "lq-lora")
        self.check_sums(full, list(SHAPES))
        self.assertLess(full["cost"], fast["cost"])

    def test_the_table_names_every_tensor_and_the_bound(self):
        text = self.run_ok("m.safetensors", "--budget", 3, "--exclude", "embed", "--gap", "0.01")
        for part in (*SHAPES, "24 x 64", "uniform", "linear bound", "gap"):
            self.assertIn(part, text)
