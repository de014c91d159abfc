"""Write a program as a Python function that calls torch's kernels, one line each."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import torch

from ember.engine.interpret import (
    CONTROL,
    FACTORISATIONS,
    NEED_CONTIGUOUS,
    RESHAPES,
    resolve,
    spoil_failures,
)
from ember.engine.operations import classify
from ember.engine.program import Node, Program, Value

Calls = Callable[..., tuple[torch.Tensor, ...]]


def compile_to_calls(program: Program) -> Calls:
    """Return a function of the program's inputs that returns its outputs, without gradients.

    Results share memory neither with inputs nor with each other.

    :param program: of operations that torch has kernels for, as captured ``for_kernels``.
    """
    writer = _Writer(program)
    source = "\n    ".join([f"def run({', '.join(writer.parameters)}):", *writer.lines])
    exec(compile(source, "<program>", "exec"), writer.namespace)
    run = writer.namespace["run"]

    def call(*inputs: torch.Tensor) -> tuple[torch.Tensor, ...]:
        with torch.no_grad():
            return run(*inputs)

    return call


class _Writer:
    """Collects the lines of a function, and the names that they use."""

    def __init__(self, program: Program) -> None:
        self.namespace: dict[str, Any] = {}
        self.lines: list[str] = []
        self._names: dict[Value, str] = {}
        # Values are contiguous in a program, but here no tensor is copied to make it so.
        self._shared: set[Value] = set()  # with memory that is not the value's own
        for value, tensor in program.constants.items():
            self._constant(value, tensor)
        self.parameters = [self._name(value) for value in program.inputs]
        self._shared.update(program.inputs)
        last_use = _last_uses(program)
        for index, node in enumerate(program.nodes):
            if _is_fill(node):
                result = resolve(node.op)(*node.args, **node.kwargs)
                results = [result] if isinstance(result, torch.Tensor) else result
                for value, each in zip(node.outputs, results, strict=True):
                    self._constant(value, each)
                continue
            self._write(node)
            # Freed memory is what the next results go to.
            done = [self._names[value] for value in last_use.get(index, ())]
            if done:
                self.lines.append("del " + ", ".join(done))
        self.lines.append(f"return ({''.join(f'{each}, ' for each in self._outputs(program))})")

    def _name(self, value: Value) -> str:
        return self._names.setdefault(value, f"v{len(self._names)}")

    def _constant(self, value: Value, tensor: torch.Tensor) -> None:
        self.namespace[self._name(value)] = tensor
        self._shared.add(value)

    def _bind(self, thing: Any) -> str:
        name = f"f{len(self.namespace)}"
        self.namespace[name] = thing
        return name

    def _text(self, item: Any) -> str:
        if isinstance(item, Value):
            return self._names[item]
        if isinstance(item, (list, tuple)):
            inside = ", ".join(map(self._text, item))
            return f"[{inside}]" if isinstance(item, list) else f"({inside}{',' * (len(item) == 1)})"
        if item is None or isinstance(item, (bool, int)):
            return repr(item)
        return self._bind(item)  # such as numbers that are not finite, and dtypes

    def _write(self, node: Node) -> None:
        arguments = [self._text(each) for each in node.args]
        if node.regions:
            call = f"{self._bind(CONTROL[node.op])}({', '.join([self._bind(node), *arguments])})"
            self._shared.update(node.outputs)
        elif node.op in RESHAPES:
            call = f"{arguments[0]}.reshape({arguments[1]})"
            self._shared.update(node.outputs)
        else:
            function = resolve(node.op)
            if node.op in NEED_CONTIGUOUS:
                arguments[0] += ".contiguous()"
            arguments += [f"{name}={self._text(each)}" for name, each in node.kwargs.items()]
            call = f"{self._bind(function)}({', '.join(arguments)})"
            if node.op in FACTORISATIONS:
                call = f"{self._bind(spoil_failures)}({call})"
            # Casts that change nothing, and some operations on contiguous tensors, return their argument.
            if classify(function).is_view or node.op in ("aten._to_copy.default", "aten.contiguous.default"):
                self._shared.update(node.outputs)
        names = [self._name(value) for value in node.outputs]
        self.lines.append(f"{', '.join(names)}{'' if _returns_tensor(node) else ','} = {call}")

    def _outputs(self, program: Program) -> list[str]:
        """Return expressions of the outputs, copies where one would not be in memory of its own."""
        given: set[Value] = set()
        texts = []
        for value in program.outputs:
            is_own = value not in self._shared and value not in given
            given.add(value)
            # Fresh results of kernels may have other strides, which copies keep.
            texts.append(self._names[value] + ("" if is_own else ".clone()"))
        return texts


def _returns_tensor(node: Node) -> bool:
    """Whether a node's operation returns a tensor, and not several."""
    if node.regions or node.op in FACTORISATIONS:
        return False
    returns = resolve(node.op)._schema.returns
    return len(returns) == 1 and str(returns[0].type) == "Tensor"


def _is_fill(node: Node) -> bool:
    """Whether a node's result is always the same, so that it is evaluated once."""
    return not (node.regions or "draw" in node.attributes or next(node.inputs(), None))


def _last_uses(program: Program) -> dict[int, list[Value]]:
    """Return which values of nodes are not used any more after each node."""
    last: dict[Value, int] = {}
    for index, node in enumerate(program.nodes):
        for value in (*node.outputs, *node.inputs()):
            last[value] = index
    outside = {*program.inputs, *program.constants, *program.outputs}
    outside.update(value for node in program.nodes if _is_fill(node) for value in node.outputs)
    dying: dict[int, list[Value]] = {}
    for value, index in last.items():
        if value not in outside:
            dying.setdefault(index, []).append(value)
    return dying
