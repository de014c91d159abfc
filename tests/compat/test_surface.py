"""Compare the list of Pyro's public names (surface.txt) with what ember answers for.

Each line of the list begins with ``+`` if the name is there and with ``-`` if it is not part of this version
yet. Run this file as a script to bring the marks up to date after adding something.
"""

from __future__ import annotations

import importlib
import subprocess
import sys
from pathlib import Path

import pytest

import ember.compat

LIST = Path(__file__).with_name("surface.txt")


def read() -> list[tuple[str, str]]:
    """Return pairs of mark and name, in the order of the list."""
    return [(line[0], line[2:]) for line in LIST.read_text().splitlines() if line.startswith(("+ ", "- "))]


def resolve(name: str) -> object:
    """Import a name as programs do: a module, or ``from module import name``."""
    parent, _, last = name.rpartition(".")
    namespace: dict[str, object] = {}
    exec(f"from {parent} import {last}", namespace)
    return namespace[last]


@pytest.fixture(autouse=True)
def pyro():
    ember.compat.install()
    yield importlib.import_module("pyro")
    ember.compat.uninstall()


AVAILABLE = [name for mark, name in read() if mark == "+"]
MISSING = [name for mark, name in read() if mark == "-"]


def test_the_list_is_complete():
    names = AVAILABLE + MISSING
    assert len(names) == len(set(names)) > 400


@pytest.mark.parametrize("name", AVAILABLE)
def test_available_name_resolves(name):
    assert resolve(name) is not None or name.endswith("LAST_CACHE_SIZE")


# These modules are files of ember's own, and keep to what they define.
OF_FILES = {
    "pyro.infer.discrete.TraceEnumSample_ELBO",
    "pyro.distributions.torch_distribution.MaskedDistribution",
}
WALK = """
import sys
import ember as pyro
for name in sys.argv[1:]:
    value = pyro
    for part in name.split(".")[1:]:
        value = getattr(value, part)
"""


def test_importing_ember_as_pyro_is_enough_to_reach_every_name():
    names = [name for name in AVAILABLE if name not in OF_FILES]
    run = subprocess.run([sys.executable, "-c", WALK, *names], capture_output=True, text=True)
    assert run.returncode == 0, run.stderr


def test_packages_refuse_names_that_nobody_has():
    for package in ("infer", "distributions", "poutine", "optim", "ops"):
        with pytest.raises(AttributeError, match=rf"module 'ember.{package}' has no attribute 'nonsense'"):
            getattr(ember, package).nonsense  # noqa: B018


@pytest.mark.parametrize("name", MISSING)
def test_missing_name_is_refused_by_name(name):
    with pytest.raises(ImportError, match="not part of this version of ember") as refused:
        resolve(name)
    # The first module on the way that is not there, or the name itself.
    assert refused.value.name is not None and (name + ".").startswith(refused.value.name + ".")


@pytest.mark.parametrize("name", MISSING)
def test_missing_attribute_is_refused(name, pyro):
    value = pyro
    with pytest.raises(AttributeError, match="not part of this version of ember"):
        for part in name.split(".")[1:]:
            value = getattr(value, part)


def _mark(line: str) -> str:
    if not line.strip() or line.startswith("#"):
        return line
    name = line.removeprefix("+ ").removeprefix("- ")
    try:
        resolve(name)
    except ImportError as error:
        if "not part of this version" not in str(error):
            raise
        return f"- {name}"
    return f"+ {name}"


if __name__ == "__main__":
    ember.compat.install()
    marked = [_mark(line) for line in LIST.read_text().splitlines()]
    LIST.write_text("\n".join(marked) + "\n")
    print(sum(line.startswith("+") for line in marked), "of", sum(line[:1] in ("+", "-") for line in marked))
