"""Keep the cyclic garbage collector away from what lives as long as the process."""

from __future__ import annotations

import contextlib
import gc
import sys
from collections.abc import Iterator


@contextlib.contextmanager
def permanent_imports() -> Iterator[None]:
    """Let nothing be collected inside, and leave what is made there out of all later collections.

    Importing torch makes some 500,000 objects that stay; looking through them again and again would be a
    tenth of the time from the start of a process to its first draw. Where torch is there already, nothing
    is done: a program that has run for a while may have garbage, which must not be kept.
    """
    if "torch" in sys.modules or not gc.isenabled():
        yield
        return
    gc.disable()
    try:
        yield
        gc.freeze()
    finally:
        gc.enable()
