"""Check that importing ember spares the garbage collector, and only where torch came with it."""

import subprocess
import sys


def report(code):
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
    return done.stdout.split()


def test_what_a_first_import_makes_is_left_alone():
    enabled, frozen = report("import gc, ember; print(gc.isenabled(), gc.get_freeze_count() > 100_000)")
    assert (enabled, frozen) == ("True", "True")


def test_a_program_that_has_torch_keeps_its_garbage_collectable():
    enabled, frozen = report("import gc, torch, ember; print(gc.isenabled(), gc.get_freeze_count())")
    assert enabled == "True" and int(frozen) < 1000
    assert report("import gc; gc.disable(); import ember; print(gc.isenabled())") == ["False"]
