"""Compile programs to native functions of tensors."""

from __future__ import annotations

import threading
import time
from collections import OrderedDict
from collections.abc import Collection, Iterator

import torch

from ember.engine import cache, machine
from ember.engine.listing import program_hash
from ember.engine.lowering.lower import ENTRY, Layout, lower
from ember.engine.native import CompiledProgram, Context
from ember.engine.program import Program
from ember.engine.statistics import statistics

_REMEMBERED = 256  # compiled programs kept in memory; contexts in use keep theirs besides
_memory: OrderedDict[str, CompiledProgram] = OrderedDict()
_lock = threading.Lock()


def compile(
    program: Program,
    target: machine.Target | None = None,
    compact: Collection[int] = (),
    use_disk: bool = True,
) -> CompiledProgram:
    """Compile a program to machine code, or find it compiled in memory or in the user's cache directory.

    :param target: the machine to compile for, by default the one this runs on.
    :param compact: positions of float64 inputs to be read as float32, which halves the memory that large data
        occupies; arithmetic stays in float64.
    :param use_disk: look in the cache directory, and write to it.
    :raises NotLowerable: if an operation has no lowering, or the program is too large.
    """
    target = target or machine.host()
    started = time.perf_counter()
    key = machine.digest(program_hash(program), target.identity, cache.code_version(), repr(sorted(compact)))
    with _lock:
        found = _memory.get(key)
        if found is not None:
            _memory.move_to_end(key)
    if found is not None:
        statistics.count(memory_hits=1)
        return found
    compiled = _load(key, program, target, started) if use_disk else None
    if compiled is None:
        compiled = _make(key, program, target, started, compact, use_disk)
    with _lock:
        _memory[key] = compiled
        while len(_memory) > _REMEMBERED:
            _memory.popitem(last=False)
    return compiled


def forget() -> None:
    """Empty the cache in memory; the one on disk stays."""
    with _lock:
        _memory.clear()


def _load(key: str, program: Program, target: machine.Target, started: float) -> CompiledProgram | None:
    entry = cache.load(key)
    if entry is None:
        return None
    description, data = entry
    layout = Layout.from_description(description)
    code = machine.Code(data, target, ENTRY, layout.symbols)
    seconds = time.perf_counter() - started
    statistics.count(disk_hits=1, compile_seconds=seconds)
    return CompiledProgram(layout, code, _constants(program, layout), seconds)


def _make(
    key: str,
    program: Program,
    target: machine.Target,
    started: float,
    compact: Collection[int],
    use_disk: bool,
) -> CompiledProgram:
    lowered = lower(program, target.lanes, target.masked_tails, compact)
    data = machine.assemble(lowered.text, target, lowered.num_calls)
    code = machine.Code(data, target, ENTRY, lowered.layout.symbols)
    if use_disk:
        cache.store(key, lowered.layout.description(), data)
    seconds = time.perf_counter() - started
    statistics.count(compilations=1, compile_seconds=seconds)
    compiled = CompiledProgram(lowered.layout, code, _constants(program, lowered.layout), seconds)
    compiled.text = lowered.text
    return compiled


def _constants(program: Program, layout: Layout) -> list[torch.Tensor | None]:
    """Return the constants that the code reads from memory; None for those that are part of it."""
    return [
        data.detach().contiguous() if needed else None
        for data, needed in zip(_all_constants(program), layout.constants, strict=True)
    ]


def _all_constants(program: Program) -> Iterator[torch.Tensor]:
    """Yield the constants of a program and its regions, in the order in which lowering meets them."""
    yield from program.constants.values()
    for node in program.nodes:
        for region in node.regions:
            yield from _all_constants(region)


__all__ = ["CompiledProgram", "Context", "compile", "forget"]
