"""Run programs through torch.compile, for people who ask for it."""

from __future__ import annotations

import functools
import operator
import warnings
from collections.abc import Callable, Sequence
from typing import Any

import torch

from ember.engine.interpret import (
    FACTORISATIONS,
    NEED_CONTIGUOUS,
    RESHAPES,
    resolve,
    spoil_failures,
)
from ember.engine.policy import NotInductable
from ember.engine.program import Node, Program, Value

Compiled = Callable[..., tuple[torch.Tensor, ...]]
# torch.compile takes milliseconds for each operation.
LARGEST = 5000


def compile_by_inductor(program: Program, *examples: torch.Tensor) -> Compiled:
    """Compile a program by torch.compile, and run it once.

    Its scans are unrolled; other loops and branches have no form that torch.compile accepts.

    :param program: simplified, of ATen operations.
    :param examples: inputs of the program.
    :raises NotInductable: for a program with data-dependent control flow, a large one, or where torch.compile
        fails, as it does without a C++ compiler.
    """
    program, draws = _draw_apart(program)
    graph = torch.fx.Graph()
    module = torch.nn.Module()
    tracer = _Unroller(graph, module)
    graph.output(tuple(tracer.run(program, [graph.placeholder(f"x{i}") for i in range(len(program.inputs))])))
    try:
        compiled = torch.compile(
            torch.fx.GraphModule(module, graph),
            fullgraph=True,
            dynamic=False,
            options={"fallback_random": True},  # draws of torch's generator
        )
        # What torch warns about is inside torch.
        with torch.no_grad(), warnings.catch_warnings(), torch.random.fork_rng(devices=()):
            warnings.simplefilter("ignore")
            compiled(*examples, *(draw() for draw in draws))
    except Exception as error:
        said = " ".join(str(error).split("Set TORCHDYNAMO_VERBOSE")[0].split())
        raise NotInductable(f"torch.compile fails with {type(error).__name__}: {said}") from error

    def call(*tensors: torch.Tensor) -> tuple[torch.Tensor, ...]:
        with torch.no_grad():
            return _apart(tensors, compiled(*tensors, *(draw() for draw in draws)))

    return call


def _apart(inputs: Sequence[torch.Tensor], results: Sequence[torch.Tensor]) -> tuple[torch.Tensor, ...]:
    """Return results that share memory neither with inputs nor with each other, copied where they did."""
    taken = {each.untyped_storage().data_ptr() for each in inputs}
    found = []
    for each in results:
        memory = each.untyped_storage().data_ptr()
        found.append(each.clone() if memory in taken else each)
        taken.add(memory)
    return tuple(found)


def _draw_apart(program: Program) -> tuple[Program, list[Callable[[], torch.Tensor]]]:
    """Return the program with draws that depend on nothing but shapes as further inputs, and what draws them.

    Torch's kernels draw faster than what torch.compile makes of a draw.
    """
    known = dict(program.constants)
    drawn: list[Value] = []
    draws: list[Callable[[], torch.Tensor]] = []
    nodes: list[Node] = []
    for node in program.nodes:
        nodes.append(node)
        if node.op == "aten.full.default":
            known[node.outputs[0]] = resolve(node.op)(*node.args, **node.kwargs)
        if "draw" not in node.attributes or len(node.outputs) > 1:
            continue
        args = list(node.args)
        if "_like." in node.op:
            args[0] = torch.empty(args[0].shape, dtype=args[0].dtype)
        args = [known.get(each, each) if isinstance(each, Value) else each for each in args]
        if not any(isinstance(each, Value) for each in args):
            draws.append(functools.partial(resolve(node.op), *args, **node.kwargs))
            drawn.append(nodes.pop().outputs[0])
    return Program([*program.inputs, *drawn], program.constants, nodes, program.outputs), draws


class _Unroller:
    """Write programs as nodes of a torch.fx graph."""

    def __init__(self, graph: torch.fx.Graph, module: torch.nn.Module) -> None:
        self._graph = graph
        self._module = module
        self._num_constants = 0

    def run(self, program: Program, inputs: list[Any]) -> list[Any]:
        """Add the operations of ``program``; return the nodes of its outputs."""
        environment: dict[Value, Any] = dict(zip(program.inputs, inputs, strict=True))
        for value, tensor in program.constants.items():
            environment[value] = self._constant(tensor)

        def concrete(item: Any) -> Any:
            if isinstance(item, Value):
                return environment[item]
            if isinstance(item, (list, tuple)):
                return type(item)(concrete(each) for each in item)
            return item

        for node in program.nodes:
            if node.regions and node.op != "scan":
                raise NotInductable(f"a {node.op} depends on values, which torch.compile does not follow")
            args = tuple(concrete(each) for each in node.args)
            kwargs = {name: concrete(each) for name, each in node.kwargs.items()}
            results = self._scan(node, *args) if node.regions else self._operation(node, args, kwargs)
            environment.update(zip(node.outputs, results, strict=True))
            if len(self._graph.nodes) > LARGEST:
                raise NotInductable(f"it has more than {LARGEST} operations once its scans are unrolled")
        return [environment[value] for value in program.outputs]

    def _constant(self, tensor: torch.Tensor) -> Any:
        name = f"constant{self._num_constants}"
        self._num_constants += 1
        self._module.register_buffer(name, tensor.detach().contiguous())
        return self._graph.get_attr(name)

    def _operation(self, node: Node, args: Any, kwargs: Any) -> list[Any]:
        if not node.op.startswith("aten."):
            raise NotInductable(f"{node.op} is not an operation of torch's own")
        function = resolve(node.op)
        if node.op in RESHAPES:
            function = torch.ops.aten.reshape.default
        elif node.op in NEED_CONTIGUOUS:
            args = (self._graph.call_method("contiguous", args[:1]), *args[1:])
        results = self._graph.call_function(function, args, kwargs)
        if node.op in FACTORISATIONS:
            results = self._graph.call_function(spoil_failures, (results,))
        returns = function._schema.returns
        if len(returns) == 1 and str(returns[0].type) == "Tensor":
            return [results]
        return [self._item(results, index) for index in range(len(node.outputs))]

    def _item(self, results: Any, index: int) -> Any:
        return self._graph.call_function(operator.getitem, (results, index))

    def _scan(self, node: Node, carry: Any, xs: Any, outer: Any) -> list[Any]:
        length, count = node.attributes["length"], node.attributes["num_carry"]
        state: list[Any] = list(carry)
        steps: list[list[Any]] = []
        for index in reversed(range(length)) if node.attributes["reverse"] else range(length):
            results = self.run(node.regions[0], [*state, *(self._item(x, index) for x in xs), *outer])
            state = results[:count]
            steps.append(results[count:])
        if node.attributes["reverse"]:
            steps.reverse()
        return state + [
            self._graph.call_function(torch.stack, (list(column),)) for column in zip(*steps, strict=True)
        ]
