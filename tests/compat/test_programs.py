"""Run Pyro programs unchanged through ``python -m ember.compat``, and with ``import ember as pyro``."""

from __future__ import annotations

import os
import re
import subprocess
import sys
from pathlib import Path

import pytest

FOLDER = Path(__file__).with_name("programs")
PROGRAMS = sorted(path.name for path in FOLDER.glob("*.py"))
LONG_PATHS_ONLY = {
    "legacy_names.py",
    "hmc_gamma.py",
    "discrete_guide.py",
}  # import paths that only compat has


def run(*arguments: str, **kwargs) -> subprocess.CompletedProcess:
    environment = {**os.environ, "OMP_NUM_THREADS": "1", "PYTHONWARNINGS": "default"}
    return subprocess.run(
        [sys.executable, *arguments], capture_output=True, text=True, env=environment, timeout=300, **kwargs
    )


@pytest.mark.parametrize("program", PROGRAMS)
def test_program_runs_through_compat(program, tmp_path):
    done = run("-m", "ember.compat", str(FOLDER / program), cwd=tmp_path)
    assert done.returncode == 0, done.stderr


@pytest.mark.parametrize("program", [name for name in PROGRAMS if name not in LONG_PATHS_ONLY])
def test_program_runs_with_ember_as_pyro(program, monkeypatch):
    source = (FOLDER / program).read_text()
    source = re.sub(r"^import pyro$", "import ember as pyro", source, flags=re.M)
    source = re.sub(r"^(import|from) pyro\b", r"\1 ember", source, flags=re.M)
    monkeypatch.setattr(sys, "argv", [program])
    exec(compile(source, str(FOLDER / program), "exec"), {"__name__": "__main__"})
