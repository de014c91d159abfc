"""Turn functions of tensors into programs, and programs into machine code; knows no probability."""

from ember.engine import random
from ember.engine.control import cond, scan, while_loop

__all__ = ["cond", "random", "scan", "while_loop"]
