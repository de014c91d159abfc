"""Keep SciPy's BLAS to one thread while compiled programs call it.

Each chain has a thread of its own. OpenBLAS would start several more for each call, and make calls from
different threads wait for each other: a 200 x 200 Cholesky factor then takes milliseconds instead of 0.3.
"""

from __future__ import annotations

import ctypes
import importlib
import os
import threading
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from functools import lru_cache
from pathlib import Path
from typing import Any

_lock = threading.Lock()
_running = 0
_former = 1
if hasattr(os, "register_at_fork"):
    os.register_at_fork(before=_lock.acquire, after_in_parent=_lock.release, after_in_child=_lock.release)


@contextmanager
def single_threaded_blas() -> Iterator[None]:
    """Let SciPy's BLAS use one thread in the ``with`` block; after the last such block, as many as before."""
    global _running, _former
    controls = _controls()
    if controls is None:
        yield
        return
    get, put = controls
    with _lock:
        if _running == 0:
            _former = get()
            put(1)
        _running += 1
    try:
        yield
    finally:
        with _lock:
            _running -= 1
            if _running == 0:
                put(_former)


@lru_cache(maxsize=1)
def _controls() -> tuple[Callable[[], int], Callable[[int], None]] | None:
    """Find OpenBLAS's switches in the library that SciPy carries; None if it uses another BLAS."""
    scipy: Any = importlib.import_module("scipy")
    package = Path(scipy.__file__).parent
    for folder in (package.parent / "scipy.libs", package / ".dylibs", package / ".libs"):
        for path in sorted(folder.glob("*openblas*")):
            library = ctypes.CDLL(str(path))
            for prefix in ("scipy_openblas", "openblas"):
                for suffix in ("", "64_"):
                    try:
                        get = getattr(library, f"{prefix}_get_num_threads{suffix}")
                        put = getattr(library, f"{prefix}_set_num_threads{suffix}")
                    except AttributeError:
                        continue
                    return get, put
    return None
