"""Offer the ``ember`` command: ``ember version`` and ``ember run-pyro script.py``."""

from __future__ import annotations

import argparse
import sys
from collections.abc import Sequence

from ember.compat.script import main as run_pyro
from ember.version import __version__


def main(arguments: Sequence[str] | None = None) -> int:
    """Run the command with the given arguments (by default the process's) and return its exit code."""
    arguments = list(sys.argv[1:] if arguments is None else arguments)
    if arguments[:1] == ["run-pyro"]:  # what follows belongs to the program
        return run_pyro(arguments[1:])
    parser = argparse.ArgumentParser(
        prog="ember", description="A probabilistic programming language for PyTorch."
    )
    commands = parser.add_subparsers(dest="command", required=True)
    commands.add_parser("version", help="print the version of ember")
    commands.add_parser(
        "run-pyro", help="run a program that imports pyro: ember run-pyro script.py [arguments]"
    )
    parser.parse_args(arguments)
    print(__version__)
    return 0
