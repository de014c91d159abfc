"""Turn functions of tensors into programs, and programs into machine code; knows no probability."""

from ember.engine import random
from ember.engine.capture import capture
from ember.engine.compile import compile
from ember.engine.control import cond, scan, while_loop
from ember.engine.explanation import explain
from ember.engine.interpret import interpret
from ember.engine.policy import ExecutionError
from ember.engine.recording.refusal import NotCapturable
from ember.engine.statistics import statistics

__all__ = [
    "ExecutionError",
    "NotCapturable",
    "capture",
    "compile",
    "cond",
    "explain",
    "interpret",
    "random",
    "scan",
    "statistics",
    "while_loop",
]
