"""Rewrite programs into smaller ones that compute the same numbers."""

from __future__ import annotations

from ember.engine.passes.constants import fold_constants
from ember.engine.passes.dead_code import eliminate_dead_code
from ember.engine.passes.invariants import hoist_invariants
from ember.engine.passes.sharing import share_common_subexpressions
from ember.engine.passes.trivia import remove_trivial_operations
from ember.engine.program import Program


def simplify(program: Program) -> Program:
    """Fold constants, drop operations without effect, share equal ones, and remove those nobody reads.

    The result computes bit for bit what the program did, except that sums with zero lose the sign of zeros.
    """
    for step in (
        eliminate_dead_code,
        fold_constants,
        remove_trivial_operations,
        share_common_subexpressions,
        remove_trivial_operations,
        hoist_invariants,
        share_common_subexpressions,
        eliminate_dead_code,
    ):
        program = step(program)
    return program
