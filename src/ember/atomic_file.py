"""Write files so that a failure leaves the old one as it was."""

from __future__ import annotations

import os
import tempfile
from pathlib import Path
from typing import Any


def write_atomically(filename: Any, data: bytes) -> None:
    """Write ``data`` beside the file, and put it in the file's place once all of it is on the disk."""
    path = Path(filename)
    handle, temporary = tempfile.mkstemp(dir=path.parent, prefix=path.name + ".", suffix=".part")
    try:
        with os.fdopen(handle, "wb") as file:
            file.write(data)
            file.flush()
            os.fsync(file.fileno())
        os.replace(temporary, path)
    except BaseException:
        Path(temporary).unlink(missing_ok=True)
        raise
