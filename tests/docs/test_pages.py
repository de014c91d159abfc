"""Check that the pages for users name things that exist: files, targets of make, and code that runs."""

from __future__ import annotations

import doctest
import re
from pathlib import Path

import pytest

ROOT = Path(__file__).resolve().parents[2]
PAGES = [ROOT / "README.md", *sorted((ROOT / "docs").glob("*.md"))]


@pytest.mark.parametrize("page", PAGES, ids=lambda page: page.name)
def test_links_point_to_files(page):
    targets = re.findall(r"\]\(([^)#]+)\)", page.read_text())
    missing = [t for t in targets if not t.startswith("http") and not (page.parent / t).exists()]
    assert missing == []


@pytest.mark.parametrize("page", PAGES, ids=lambda page: page.name)
def test_every_python_block_is_a_doctest(page):
    blocks = re.findall(r"```python\n(.*?)```", page.read_text(), flags=re.S)
    assert blocks
    for block in blocks:
        assert doctest.DocTestParser().get_examples(block), f"{page.name}: not run as a test:\n{block}"


def test_make_targets_of_the_readme_exist():
    rules = set(re.findall(r"^([\w-]+):", (ROOT / "Makefile").read_text(), flags=re.M))
    named = set(re.findall(r"make ([a-z][\w-]*)", (ROOT / "README.md").read_text()))
    assert {"demo", "test"} <= named <= rules


def test_layout_of_the_readme_exists():
    layout = re.search(r"src/ember/\n(.*?)\ntests/", (ROOT / "README.md").read_text(), flags=re.S)
    assert layout is not None
    for line in layout.group(1).splitlines():
        for name in re.split(r"  +", line.strip())[0].split(", "):
            path = ROOT / "src/ember" / name
            assert path.exists() or path.with_suffix(".py").exists(), name
