"""Check that imports follow the one-way arrows between the parts of the package, without cycles."""

import pytest
import source_tree
from source_tree import MODULES, Import, imports_of, part_of

LEAVES = {
    "arviz_library",
    "atomic_file",
    "collector",
    "elsewhere",
    "errors",
    "settings",
    "random_state",
    "state_file",
    "version",
}
ANYTHING = {"ember", "elsewhere", "report", "cli", "compat", "examples", "__main__"}
ARROWS = {
    "data": set(),
    "engine": set(),
    "distributions": set(),
    "poutine": {"distributions"},
    "params": {"distributions"},
    "primitives": {"poutine", "params", "distributions"},
    "kernels": {"engine"},
    "model": {"poutine", "distributions", "engine", "params"},
    "ops": {"primitives", "poutine", "params", "distributions"},
    "nn": {"primitives", "params", "poutine", "distributions", "optim"},
    "optim": {"primitives", "params", "poutine", "distributions", "nn", "ops"},
    "guides": {"primitives", "poutine", "distributions", "params", "model", "nn"},
    "infer": {
        "model",
        "kernels",
        "guides",
        "engine",
        "params",
        "poutine",
        "primitives",
        "distributions",
        "ops",
    },
    "contrib": {
        "ember",
        "primitives",
        "poutine",
        "params",
        "distributions",
        "model",
        "ops",
        "nn",
        "optim",
        "infer",
    },
    **{leaf: set() for leaf in LEAVES},
}
# Imports inside functions: the lazy names of the package itself, and the table of Pyro's paths.
LAZY = {"ember", "ember.elsewhere", "ember.compat.facade"}


def offences(imports: list[Import]) -> list[str]:
    """Return the imports that go against the arrows."""
    return [
        str(each)
        for each in imports
        if part_of(each.importer) not in ANYTHING
        and part_of(each.imported) != part_of(each.importer)
        and part_of(each.imported) not in ARROWS[part_of(each.importer)] | LEAVES
    ]


def cycles(graph: dict[str, set[str]]) -> list[list[str]]:
    """Return one path through each cycle that a depth-first walk meets."""
    found: list[list[str]] = []
    finished: set[str] = set()

    def visit(node: str, path: list[str]) -> None:
        if node in path:
            found.append([*path[path.index(node) :], node])
        elif node not in finished:
            for follower in sorted(graph.get(node, ())):
                visit(follower, [*path, node])
            finished.add(node)

    for node in sorted(graph):
        visit(node, [])
    return found


def test_every_part_has_a_line_in_the_table():
    parts = {part_of(module) for module in MODULES}
    assert parts <= set(ARROWS) | ANYTHING, f"no arrows are set for {parts - set(ARROWS) - ANYTHING}"


def test_arrows_of_the_table_form_no_cycle():
    table = {
        part: targets - {"nn", "optim"} if part in ("nn", "optim") else targets
        for part, targets in ARROWS.items()
    }
    assert cycles(table) == []


@pytest.mark.parametrize("part", sorted({part_of(module) for module in MODULES}))
def test_imports_follow_the_arrows(part):
    imports = [each for module in MODULES if part_of(module) == part for each in imports_of(module)]
    assert offences(imports) == []


def test_no_import_cycle():
    graph = {
        module: {
            each.imported
            for each in imports_of(module)
            if not each.for_types_only and not each.in_function and each.imported != module
        }
        for module in MODULES
    }
    assert cycles(graph) == []


def test_no_import_of_the_package_inside_functions():
    inside = [
        str(each)
        for module in MODULES
        if module not in LAZY
        for each in imports_of(module)
        if each.in_function
    ]
    assert inside == []


def test_a_wrong_arrow_is_found():
    source = "from ember.infer import SVI\nfrom ember import settings\nfrom ember.distributions import Normal"
    assert offences(imports_of("ember.poutine.new", source)) == [
        "ember.poutine.new imports ember.infer (line 1)"
    ]


def test_imports_in_functions_and_relative_ones_are_found():
    source = "from .. import infer\nfrom .runtime import Message\ndef f():\n    import ember.optim\n"
    found = [(each.imported, each.in_function) for each in imports_of("ember.poutine.new", source)]
    expected = "ember.infer" if "ember.infer" in MODULES else "ember"
    assert found == [(expected, False), ("ember.poutine.runtime", False), ("ember.optim", True)]


def test_a_cycle_is_found():
    assert cycles({"a": {"b"}, "b": {"c"}, "c": {"a"}}) == [["a", "b", "c", "a"]]


def test_the_tree_is_read():
    assert "ember.poutine.runtime" in MODULES
    assert source_tree.module_name(MODULES["ember.poutine"]) == "ember.poutine"
