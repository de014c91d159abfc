"""Keep compiled programs in the user's cache directory, across processes.

An entry is executed only if it was written by this user on this machine: the directory and its files must
belong to the user and be writable to nobody else, and each entry carries a message authentication code
(HMAC-SHA-256) under a random key that lives beside them. Anything else is compiled anew.
"""

from __future__ import annotations

import contextlib
import hashlib
import hmac
import json
import os
import secrets
import stat
import tempfile
import warnings
from functools import lru_cache
from pathlib import Path
from typing import Any

from ember.version import __version__

_MAGIC = b"ember-code-1\n"
_MAC_BYTES = 32
_MAX_BYTES = 256 * 2**20  # the oldest entries go when the cache grows beyond this
_warned = False


def directory() -> Path:
    """Return ``$EMBER_CACHE_DIR``, else ``ember`` in ``$XDG_CACHE_HOME`` or ``~/.cache``."""
    chosen = os.environ.get("EMBER_CACHE_DIR")
    if chosen:
        return Path(chosen)
    base = os.environ.get("XDG_CACHE_HOME")
    return (Path(base) if base else Path.home() / ".cache") / "ember"


@lru_cache(maxsize=1)
def code_version() -> str:
    """Return a digest of the versions, and of the source files that decide what code is generated."""
    import llvmlite
    import llvmlite.binding as binding

    digest = hashlib.sha256(f"{__version__}|{llvmlite.__version__}|{binding.llvm_version_info}".encode())
    here = Path(__file__).parent
    for source in [*sorted((here / "lowering").rglob("*.py")), here / "machine.py", here / "cache.py"]:
        digest.update(source.read_bytes())
    return digest.hexdigest()


def load(key: str) -> tuple[dict[str, Any], bytes] | None:
    """Return the description and machine code stored under ``key``, or None if none are to be trusted."""
    folder = directory()
    path = folder / f"{key}.bin"
    try:
        if not (_is_private(folder) and path.exists() and _is_private(path)):
            return None
        data = path.read_bytes()
        secret = _secret(folder, create=False)
    except OSError:
        return None
    start = len(_MAGIC) + _MAC_BYTES
    if secret is None or not data.startswith(_MAGIC) or len(data) < start + 8:
        return None
    mac, payload = data[len(_MAGIC) : start], data[start:]
    if not hmac.compare_digest(mac, _authenticate(secret, key, payload)):
        return None
    size = int.from_bytes(payload[:8], "little")
    description = json.loads(payload[8 : 8 + size])
    with contextlib.suppress(OSError):
        os.utime(path)
    return description, payload[8 + size :]


def store(key: str, description: dict[str, Any], code: bytes) -> None:
    """Write an entry, whole or not at all; warn once if that is not possible."""
    folder = directory()
    try:
        folder.mkdir(parents=True, exist_ok=True, mode=0o700)
        if not _is_private(folder):
            raise PermissionError(f"{folder} does not belong to the user alone")
        secret = _secret(folder, create=True)
        if secret is None:
            raise PermissionError(f"the key in {folder} does not belong to the user alone")
        header = json.dumps(description).encode()
        payload = len(header).to_bytes(8, "little") + header + code
        _write(folder, f"{key}.bin", _MAGIC + _authenticate(secret, key, payload) + payload)
        _prune(folder)
    except OSError as error:
        _warn(folder, error)


def _authenticate(secret: bytes, key: str, payload: bytes) -> bytes:
    return hmac.digest(secret, key.encode() + payload, "sha256")


def _secret(folder: Path, create: bool) -> bytes | None:
    path = folder / "key"
    if not path.exists():
        if not create:
            return None
        # Linking fails if another process was first: then its key counts.
        fresh = _write(folder, None, secrets.token_bytes(32))
        try:
            with contextlib.suppress(FileExistsError):
                os.link(fresh, path)
        finally:
            os.unlink(fresh)
    return path.read_bytes() if _is_private(path) else None


def _write(folder: Path, name: str | None, data: bytes) -> str:
    descriptor, temporary = tempfile.mkstemp(dir=folder, prefix=".new-")
    try:
        with os.fdopen(descriptor, "wb") as stream:
            stream.write(data)
        if name is None:
            return temporary
        os.replace(temporary, folder / name)
        return str(folder / name)
    except OSError:
        with contextlib.suppress(OSError):
            os.unlink(temporary)
        raise


def _is_private(path: Path) -> bool:
    """Say whether a file belongs to this user and nobody else may write to it."""
    if not hasattr(os, "geteuid"):
        return path.exists()  # Windows keeps the profile's folders private by its own means
    state = os.stat(path, follow_symlinks=False) if path.is_file() else os.stat(path)
    return state.st_uid == os.geteuid() and not state.st_mode & (stat.S_IWGRP | stat.S_IWOTH)


def _prune(folder: Path) -> None:
    entries = []
    for path in folder.glob("*.bin"):
        with contextlib.suppress(OSError):
            state = path.stat()
            entries.append((state.st_mtime, state.st_size, path))
    excess = sum(size for _, size, _ in entries) - _MAX_BYTES
    for _, size, path in sorted(entries):
        if excess <= 0:
            break
        with contextlib.suppress(OSError):
            path.unlink()
        excess -= size


def _warn(folder: Path, error: OSError) -> None:
    global _warned
    if not _warned:
        _warned = True
        warnings.warn(
            f"compiled programs cannot be kept in {folder} ({error}); the next process will compile them "
            "again. Set EMBER_CACHE_DIR to a folder of your own that can be written to.",
            RuntimeWarning,
            stacklevel=2,
        )
