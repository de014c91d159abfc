"""Capture a function of tensors as a program."""

from __future__ import annotations

import contextlib
import random
import sys
import threading
import time
import weakref
from collections.abc import Callable, Iterator, Sequence
from typing import Any, Literal

import torch
from torch.utils._pytree import tree_flatten

from ember.engine.control import active_recorder
from ember.engine.program import Program
from ember.engine.recording.flow import RegionRecorder
from ember.engine.recording.guard import Guard
from ember.engine.recording.origins import recording_site, users_line
from ember.engine.recording.recorder import DispatchRecorder
from ember.engine.recording.refusal import NotCapturable
from ember.engine.recording.traced import Traced
from ember.engine.statistics import statistics

__all__ = ["capture", "recording_site"]


def capture(
    fn: Callable[..., Any],
    *inputs: torch.Tensor,
    key: torch.Tensor | None = None,
    lift: Sequence[torch.Tensor] = (),
    collect_gradients: bool = False,
    closed_over: Literal["refuse", "constant"] = "refuse",
    where: bool = True,
    for_kernels: bool = False,
    writable: Sequence[torch.Tensor] = (),
) -> Program:
    """Run ``fn`` once on stand-ins for the inputs, and return what it does as a program.

    Only the examples' shapes, dtypes and strides count. Tensors from outside that ``fn`` closes over become
    constants: copies of what they hold now.

    :param fn: function of tensors that returns a tensor or a nest of tensors.
    :param inputs: example inputs, which become the program's first inputs.
    :param key: an example of a key (see :mod:`ember.engine.random`), which becomes the input after these.
        Random operations of ``fn`` then draw from streams of that key, one each, and in each step of a loop
        from others; the program's draws follow the same distributions as torch's, but are other numbers.
        Without a key random operations are refused.
    :param lift: tensors that ``fn`` closes over and that become the last inputs, such as parameters.
    :param collect_gradients: let ``backward`` accumulate in the ``grad`` of lifted tensors, which are empty
        when ``fn`` starts, for ``fn`` to read; afterwards they are what they were before the capture.
    :param closed_over: what to do with other tensors from outside that require a gradient.
    :param where: record the user's file and line with each operation.
    :param for_kernels: keep the operations that torch has kernels for as they are, and let random ones draw
        from torch's generator: for programs that torch's kernels execute.
    :param writable: which of the lifted tensors ``fn`` may write to in place; they stay as they are, and
        ``fn`` sees what it wrote.
    :raises NotCapturable: if ``fn`` raises, or does what a program cannot say.
    """
    if active_recorder.get() is not None:
        raise NotCapturable("a capture inside a capture")
    # Another thread may draw meanwhile; what the function itself draws shows in every attempt.
    seeded = False
    for _ in range(_ATTEMPTS if threading.active_count() > 1 else 0):
        seed = torch.initial_seed()
        with contextlib.suppress(_GeneratorsMoved):
            return _capture(
                fn, inputs, key, lift, collect_gradients, closed_over, where, for_kernels, writable
            )
        seeded = seeded or torch.initial_seed() != seed
        if seeded:
            # By another thread or by the function, which then would leave the generator as it finds it.
            torch.rand(())
    return _capture(fn, inputs, key, lift, collect_gradients, closed_over, where, for_kernels, writable)


_ATTEMPTS = 4


class _GeneratorsMoved(NotCapturable):
    """A global random number generator is in another state than before the capture."""


def _capture(
    fn: Callable[..., Any],
    inputs: tuple[torch.Tensor, ...],
    key: torch.Tensor | None,
    lift: Sequence[torch.Tensor],
    collect_gradients: bool,
    closed_over: Literal["refuse", "constant"],
    where: bool,
    for_kernels: bool,
    writable: Sequence[torch.Tensor],
) -> Program:
    started = time.perf_counter()
    recorder = DispatchRecorder(where, closed_over == "constant", for_kernels)
    stand_ins = [recorder.new_input(each) for each in inputs]
    if key is not None:
        recorder.root.key = recorder.new_input(key)
    may_change = set(map(id, writable))
    for tensor in lift:
        recorder.lift(tensor, id(tensor) in may_change)
        recorder.watch_gradient(tensor)
        if tensor.requires_grad:
            recorder.grad_leaves.append(weakref.ref(tensor))
        if collect_gradients:
            recorder.collect_gradient(tensor)
    attributes = [dict(vars(tensor)) for tensor in lift]
    generators = _generator_states()
    token = active_recorder.set(RegionRecorder(recorder))
    try:
        with _without_onednn(), Guard(recorder), recorder:
            for stand_in, each in zip(stand_ins, inputs, strict=True):
                if each.requires_grad:
                    stand_in.requires_grad_()
            outputs = [_output(recorder, leaf) for leaf in tree_flatten(fn(*stand_ins))[0]]
    except NotCapturable as error:
        raise recorder.failure or error from None
    except Exception as error:
        if recorder.failure is not None:
            raise recorder.failure from error
        place = users_line(error.__traceback__)
        raise NotCapturable(f"the function raised {type(error).__name__}: {error}", where=place) from error
    finally:
        active_recorder.reset(token)
        leaked = recorder.restore_gradients()
        for tensor, before in zip(lift, attributes, strict=True):
            # What was noted on a tensor, such as the minibatch that reads it, is of the captured run.
            vars(tensor).clear()
            vars(tensor).update(before)
        recorder.forget_tensors()
        statistics.count(captures=1, capture_seconds=time.perf_counter() - started)
    if recorder.failure is not None:
        raise recorder.failure
    if leaked:
        raise NotCapturable("the function accumulates the gradient of a tensor from outside")
    if generators != _generator_states():
        raise _GeneratorsMoved("the function draws from a random number generator outside the program")
    return recorder.root.program(outputs)


def _output(recorder: DispatchRecorder, leaf: Any) -> Any:
    if not isinstance(leaf, torch.Tensor):
        recorder.refuse(f"the function returns a {type(leaf).__name__} among its tensors")
    if type(leaf) is Traced and not leaf.home.active:
        recorder.refuse(
            "a value computed inside a loop or branch is used outside of it, not through its result"
        )
    return recorder.symbolic(leaf)


def _generator_states() -> tuple[Any, ...]:
    """Return the states of the global generators that a function might draw from unseen."""
    states: list[Any] = [random.getstate(), torch.get_rng_state().numpy().tobytes()]
    numpy = sys.modules.get("numpy")
    if numpy is not None:
        kind, words, *rest = numpy.random.get_state()
        states += [kind, words.tobytes(), rest]
    return tuple(states)


@contextlib.contextmanager
def _without_onednn() -> Iterator[None]:
    """Let recurrent networks be made of products, not of one operation with memory of its own."""
    enabled = torch._C._get_mkldnn_enabled()
    torch._C._set_mkldnn_enabled(False)
    try:
        yield
    finally:
        torch._C._set_mkldnn_enabled(enabled)
