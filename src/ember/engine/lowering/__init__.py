"""Turn programs into LLVM modules."""

from __future__ import annotations

from .errors import NotLowerable

__all__ = ["NotLowerable"]
