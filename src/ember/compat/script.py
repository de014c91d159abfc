"""Run a Pyro program from the command line with ember's objects under Pyro's names."""

from __future__ import annotations

import os
import runpy
import sys

from ember.compat.finder import install

USAGE = """\
usage: python -m ember.compat script.py [arguments]
       python -m ember.compat -m package.module [arguments]

Runs a program that imports pyro on ember."""


def main(arguments: list[str]) -> int:
    """Run ``script.py args…`` or ``-m module args…``; return an exit code, 2 if there is nothing to run.

    Errors and ``SystemExit`` of the program reach the caller.
    """
    if not arguments or arguments[0] in ("-h", "--help") or arguments == ["-m"]:
        print(USAGE, file=sys.stdout if arguments[:1] in (["-h"], ["--help"]) else sys.stderr)
        return 0 if arguments[:1] in (["-h"], ["--help"]) else 2
    install()
    if arguments[0] == "-m":
        sys.argv = arguments[1:]
        sys.path.insert(0, os.getcwd())
        runpy.run_module(arguments[1], run_name="__main__", alter_sys=True)
        return 0
    script = arguments[0]
    if not os.path.exists(script):
        print(f"ember.compat: there is no file {script!r}", file=sys.stderr)
        return 2
    sys.argv = list(arguments)
    # As `python script.py` does: imports look beside the script first.
    sys.path.insert(0, os.path.dirname(os.path.abspath(script)))
    runpy.run_path(script, run_name="__main__")
    return 0
