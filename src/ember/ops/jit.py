"""Compile functions that call ``param`` by ``torch.jit.trace``, lazily."""

from __future__ import annotations

import argparse
import functools
import time
import warnings
from collections.abc import Callable, Hashable, Iterable, Iterator
from contextlib import contextmanager
from typing import Any

import torch
from torch.utils import _pytree as pytree

from ember.errors import message
from ember.poutine import block
from ember.poutine import trace as trace_handler
from ember.poutine.param_messengers import SubstituteMessenger
from ember.poutine.runtime import Message
from ember.primitives import param, validation_enabled

Key = tuple[int, tuple[tuple[str, Hashable], ...]]

_TENSOR = object()  # stands where a program's output is a tensor


def trace(
    fn: Callable[..., Any] | None = None,
    ignore_warnings: bool = False,
    jit_options: dict[str, Any] | None = None,
) -> Any:
    """Compile a function that calls ``param``, at its first call for each set of argument shapes.

    Positional arguments are tensors, or lists, tuples and dicts of them; everything else goes by keyword and
    is a constant of the compiled program: a new value compiles again. The result has the structure that
    ``fn`` returns, and is differentiable with respect to params and tensor arguments. At the first call
    ``fn`` runs twice: once to find its params, once to be traced with validation off.

    :param ignore_warnings: silence the tracer's warnings.
    :param jit_options: options of ``torch.jit.trace``; ``check_trace`` is off by default. With
        ``{"time_compilation": True}`` the result's ``compile_time`` tells the seconds that compiling took.

    >>> import ember, torch
    >>> @ember.ops.jit.trace
    ... def double(x):
    ...     return 2.0 * x
    >>> double(torch.tensor([1.0, 2.0])), list(double.compiled)
    (tensor([2., 4.]), [(1, ())])
    """
    if fn is None:
        return functools.partial(trace, ignore_warnings=ignore_warnings, jit_options=jit_options)
    return CompiledFunction(fn, ignore_warnings=ignore_warnings, jit_options=jit_options)


class CompiledFunction:
    """A function compiled by :func:`trace`.

    ``compiled`` maps (number of positional arguments, keyword arguments) to the artefact of torch that was
    last used for them.

    :raises TypeError: on a call with a positional argument that is no tensor.
    :raises KeyError: on a call whose params are no longer in the store.
    :raises NotImplementedError: if ``fn`` makes a param only when it is run the second time.
    """

    def __init__(
        self,
        fn: Callable[..., Any],
        ignore_warnings: bool = False,
        jit_options: dict[str, Any] | None = None,
    ) -> None:
        options = dict(jit_options or {})
        self._times = bool(options.pop("time_compilation", False))
        options.setdefault("check_trace", False)
        functools.update_wrapper(self, fn, updated=())
        self.fn = fn
        self.ignore_warnings = ignore_warnings
        self.jit_options = options
        self.compiled: dict[Key, Any] = {}
        self.compile_time: float | None = None
        self._programs: dict[Any, _Program] = {}

    def __call__(self, *args: Any, **kwargs: Any) -> Any:
        leaves, structure = pytree.tree_flatten(args)
        _check_tensors(leaves)
        key: Key = (len(args), _hashable_kwargs(kwargs))
        variant = (key, structure, tuple((each.shape, each.dtype, each.device) for each in leaves))
        program = self._programs.get(variant)
        if program is None:
            program = self._programs[variant] = self._compile(leaves, structure, kwargs)
        self.compiled[key] = program.artefact
        return program(leaves)

    def _compile(self, leaves: list[torch.Tensor], structure: Any, kwargs: dict[str, Any]) -> _Program:
        params = _find_params(self.fn, leaves, structure, kwargs)
        start = time.perf_counter()
        with _quiet(self.ignore_warnings):
            program = _Program(self.fn, params, leaves, structure, kwargs, self.jit_options)
        if self._times:
            self.compile_time = time.perf_counter() - start
        return program


class _Program:
    """One artefact of torch, with the params that it takes before its arguments."""

    def __init__(
        self,
        fn: Callable[..., Any],
        params: dict[str, dict[str, Any]],
        leaves: list[torch.Tensor],
        structure: Any,
        kwargs: dict[str, Any],
        options: dict[str, Any],
    ) -> None:
        self._params = params
        returned: list[Any] = []

        def flat(*inputs: torch.Tensor) -> tuple[torch.Tensor, ...]:
            values = dict(zip(params, inputs, strict=False))
            arguments = pytree.tree_unflatten(list(inputs[len(params) : -1]), structure)
            with block(), _KnownParams(values):
                result = fn(*arguments, **kwargs)
            outputs, form = pytree.tree_flatten(result)
            # What is no tensor cannot be traced: it is a constant of the program.
            returned[:] = form, [_TENSOR if isinstance(each, torch.Tensor) else each for each in outputs]
            # The last input is there so that torch always has an input and an output to trace.
            return (*(each for each in outputs if isinstance(each, torch.Tensor)), inputs[-1] + 0)

        with validation_enabled(False):
            self.artefact = torch.jit.trace(flat, self._inputs(leaves), **options)
        self._form, self._outputs = returned

    def _inputs(self, leaves: list[torch.Tensor]) -> tuple[torch.Tensor, ...]:
        # Through the language, so that an enclosing trace sees the params at every call.
        values = [param(name, **how) for name, how in self._params.items()]
        return (*values, *leaves, torch.zeros(()))

    def __call__(self, leaves: list[torch.Tensor]) -> Any:
        tensors = iter(self.artefact(*self._inputs(leaves)))
        outputs = [next(tensors) if each is _TENSOR else each for each in self._outputs]
        return pytree.tree_unflatten(outputs, self._form)


class _KnownParams(SubstituteMessenger):
    """Give params the program's inputs as values."""

    def _pyro_param(self, msg: Message) -> None:
        if msg["name"] not in self.data:
            raise NotImplementedError(
                message(
                    f"param '{msg['name']}' was not there when the function was first run",
                    site=msg["name"],
                    expected="all params of a compiled function to be made at its first run",
                    actual=f"known params: {', '.join(map(repr, self.data)) or 'none'}",
                    fix="make the param before, or leave this function uncompiled",
                )
            )
        super()._pyro_param(msg)


def _find_params(
    fn: Callable[..., Any], leaves: list[torch.Tensor], structure: Any, kwargs: dict[str, Any]
) -> dict[str, dict[str, Any]]:
    """Run the function once, eagerly, and return its params with their constraints and event dims."""
    with block(), trace_handler(param_only=True) as recorder:
        fn(*pytree.tree_unflatten(leaves, structure), **kwargs)
    nodes = recorder.trace.nodes
    return {name: dict(nodes[name]["kwargs"]) for name in recorder.trace.param_nodes}


def _check_tensors(leaves: list[Any]) -> None:
    for each in leaves:
        if not isinstance(each, torch.Tensor):
            raise TypeError(
                message(
                    "positional arguments of a compiled function must be tensors",
                    expected="tensors, or lists, tuples and dicts of tensors",
                    actual=f"{each!r} of type {type(each).__name__}",
                    fix="pass it by keyword; the function is compiled again for each new value",
                )
            )


def _hashable_kwargs(kwargs: dict[str, Any]) -> tuple[tuple[str, Hashable], ...]:
    return tuple((name, _hashable(value)) for name, value in sorted(kwargs.items()))


def _hashable(value: Any) -> Hashable:
    """Return what stands for a keyword argument in a key: itself, its contents, or its id."""
    if _is_hashable(value):
        return value
    if isinstance(value, argparse.Namespace):
        value = vars(value)
    if isinstance(value, dict):
        return tuple(sorted(((_hashable(name), _hashable(each)) for name, each in value.items()), key=repr))
    if isinstance(value, (set, frozenset)):
        return frozenset(map(_hashable, value))
    if isinstance(value, (list, tuple)):
        return tuple(map(_hashable, value))
    warnings.warn(
        f"a compiled function was given an unhashable keyword argument of type {type(value).__name__}; it is "
        "told apart by its id, so changes of its contents go unnoticed",
        stacklevel=4,
    )
    return id(value)


def _is_hashable(value: Any) -> bool:
    try:
        hash(value)
    except TypeError:
        return False
    return True


@contextmanager
def _quiet(ignore_tracer: bool) -> Iterator[None]:
    """Silence torch's remarks about the age of its compiler, and the tracer's own if asked."""
    with warnings.catch_warnings():
        warnings.filterwarnings("ignore", message=".*torch.jit.*", category=DeprecationWarning)
        warnings.filterwarnings("ignore", message=".*optimize.*is deprecated.*")
        if ignore_tracer:
            warnings.filterwarnings("ignore", category=torch.jit.TracerWarning)
        yield


@contextmanager
def ignore_jit_warnings(filter: Iterable[str | tuple[str, type[Warning]]] | None = None) -> Iterator[None]:
    """Silence tracer warnings inside a ``with`` block or decorated function, but only while a jit traces.

    :param filter: message patterns to silence, or pairs of a pattern and a warning's class; by default all
        tracer warnings.
    """
    if not torch._C._get_tracing_state():
        yield
        return
    with warnings.catch_warnings():
        if filter is None:
            warnings.filterwarnings("ignore", category=torch.jit.TracerWarning)
        else:
            for each in filter:
                text, category = (each, torch.jit.TracerWarning) if isinstance(each, str) else each
                warnings.filterwarnings("ignore", message=text, category=category)
        yield
