// SPDX-FileCopyrightText: 2026 The qlr authors
// SPDX-License-Identifier: MIT
#include <qlr/allocate/knapsack.hpp>

#include <allocate/instances.hpp>
#include <support/catch.hpp>
#include <support/oracles.hpp>

#ifdef QLR_TEST_HAS_GLPK
#include <glpk.h>
#else
#include <iostream>
#endif

#include <cmath>
#include <limits>
#include <vector>

#ifdef QLR_TEST_HAS_GLPK

using namespace qlr;
using namespace qlr::test;

namespace {

/// Optima of the integer program and of its linear relaxation.
struct optima {
  double integer = 0;
  double linear = 0;
};

/// One row for the budget, one for each matrix, one binary column for each choice.
optima solve_with_glpk(const instance& matrices, index_t budget) {
  glp_term_out(GLP_OFF);
  glp_prob* const program = glp_create_prob();
  glp_set_obj_dir(program, GLP_MIN);
  glp_add_rows(program, static_cast<int>(matrices.size()) + 1);
  glp_set_row_bnds(program, 1, GLP_UP, 0.0, static_cast<double>(budget));
  int col = 0;
  for (std::size_t i = 0; i < matrices.size(); ++i) {
    const int row = static_cast<int>(i) + 2;
    glp_set_row_bnds(program, row, GLP_FX, 1.0, 1.0);
    for (const allocation_choice& choice : matrices[i]) {
      col = glp_add_cols(program, 1);
      glp_set_col_kind(program, col, GLP_BV);
      glp_set_obj_coef(program, col, choice.cost);
      const int rows[] = {0, 1, row}; // GLPK counts from 1
      const double values[] = {0.0, static_cast<double>(choice.size), 1.0};
      glp_set_mat_col(program, col, 2, rows, values);
    }
  }
  optima result;
  glp_smcp simplex;
  glp_init_smcp(&simplex);
  REQUIRE(glp_simplex(program, &simplex) == 0);
  REQUIRE(glp_get_status(program) == GLP_OPT);
  result.linear = glp_get_obj_val(program);
  glp_iocp search;
  glp_init_iocp(&search);
  search.cov_cuts = GLP_ON;
  search.mip_gap = 0.0;
  search.tm_lim = 20000;
  REQUIRE(glp_intopt(program, &search) == 0);
  REQUIRE(glp_mip_status(program) == GLP_OPT);
  result.integer = glp_mip_obj_val(program);
  glp_delete_prob(program);
  return result;
}

} // namespace

TEST_CASE("allocate: equals GLPK on random instances", "[allocate][property]") {
  for (const instance_kind kind : all_kinds) {
    // Branch and bound on correlated costs takes GLPK long.
    const bool is_hard = kind == instance_kind::correlated;
    for (std::uint64_t seed = 0; seed < 6; ++seed) {
      const instance matrices = random_instance(kind, is_hard ? 5 : 20, is_hard ? 6 : 15, 300 + 10 * seed);
      for (const double share : {0.1, 0.35, 0.6}) {
        const index_t budget = budget_at(matrices, share);
        const optima expected = solve_with_glpk(matrices, budget);
        const allocation found = allocate(matrices, budget);
        CAPTURE(static_cast<int>(kind), seed, share, found.cost, expected.integer);
        CHECK(found.is_proven);
        // GLPK meets constraints and optima to 1e-7 of what it scales them to.
        CHECK(is_near(found.cost, expected.integer, 1e-6 * (1e-3 + std::fabs(expected.integer))));
        CHECK(is_near(found.linear_bound, expected.linear, 1e-6 * (1e-3 + std::fabs(expected.linear))));
      }
    }
  }
}

#else

TEST_CASE("allocate: equals GLPK on random instances", "[allocate][property]") {
  std::cout << "SKIPPED: built without GLPK\n";
}

#endif
