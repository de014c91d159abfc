"""Turn programs into LLVM modules."""

from __future__ import annotations

from ember.engine.lowering.errors import NotLowerable

__all__ = ["NotLowerable"]
