"""Check that every file has one job, says it first, is of readable length and is named for it."""

import ast

import pytest
from source_tree import FILES, SOURCE

MAX_LINES = 300
# Files that may be longer, each with the reason.
LONGER: dict[str, str] = {}
VAGUE = {"util", "utils", "helper", "helpers", "misc", "common", "tools", "stuff"}

IDENTIFIERS = [str(path.relative_to(SOURCE)) for path in FILES]
NOT_EMPTY = [name for name in IDENTIFIERS if (SOURCE / name).read_text().strip()]


@pytest.mark.parametrize("name", NOT_EMPTY)
def test_file_opens_with_a_docstring(name):
    text = ast.get_docstring(ast.parse((SOURCE / name).read_text()))
    assert text, f"{name} has no docstring"
    first = text.split("\n\n")[0]
    assert first[0].isupper() and first.rstrip().endswith((".", ":", ";")), f"{name}: no sentence opens it"
    assert first.split()[0] not in ("This", "The", "A", "An", "Module"), f"{name}: begin with a verb"


def test_no_file_is_too_long():
    lengths = {name: len((SOURCE / name).read_text().splitlines()) for name in IDENTIFIERS}
    assert {name: n for name, n in lengths.items() if n > MAX_LINES and name not in LONGER} == {}


def test_exceptions_from_the_length_are_still_needed():
    stale = [n for n in LONGER if len((SOURCE / n).read_text().splitlines()) <= MAX_LINES]
    assert stale == [], "take these out of LONGER"


def test_no_file_has_a_vague_name():
    vague = [path for path in IDENTIFIERS if set(path.removesuffix(".py").split("/")[-1].split("_")) & VAGUE]
    assert vague == []


def test_no_empty_file_but_package_markers():
    empty = [n for n in IDENTIFIERS if n not in NOT_EMPTY and not n.endswith("__init__.py")]
    assert empty == []
