"""Rebuild programs node by node, with some values replaced by others."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import replace

from ember.engine.passes.copying import map_values
from ember.engine.program import Node, Program, Value

# Sees a node with its arguments already replaced, and the constants known so far; returns the values that
# stand for its outputs, or None to keep it, and may add nodes and constants.
Rule = Callable[["Rewriter", Node], "tuple[Value, ...] | None"]


class Rewriter:
    """A program being rebuilt."""

    def __init__(self, program: Program, rule: Rule) -> None:
        self.constants = dict(program.constants)
        self.inputs = set(program.inputs)
        self.nodes: list[Node] = []
        self.producer: dict[Value, Node] = {}
        self._replaced: dict[Value, Value] = {}
        self._rule = rule
        for node in program.nodes:
            self._visit(node)
        self.outputs = [self.current(value) for value in program.outputs]

    def current(self, value: Value) -> Value:
        """Return what stands for a value of the original program."""
        while value in self._replaced:
            value = self._replaced[value]
        return value

    def append(self, node: Node) -> None:
        """Add a node to the program being rebuilt."""
        self.nodes.append(node)
        for output in node.outputs:
            self.producer[output] = node

    def _visit(self, node: Node) -> None:
        node = replace(
            node,
            args=map_values(node.args, self.current),
            kwargs={name: map_values(each, self.current) for name, each in node.kwargs.items()},
            regions=tuple(rewrite(region, self._rule) for region in node.regions),
        )
        found = self._rule(self, node)
        if found is None:
            self.append(node)
            return
        for old, new in zip(node.outputs, found, strict=True):
            if old is not new:
                self._replaced[old] = new


def rewrite(program: Program, rule: Rule) -> Program:
    """Apply a rule to each node of a program, regions first."""
    rewriter = Rewriter(program, rule)
    return Program(program.inputs, rewriter.constants, rewriter.nodes, rewriter.outputs)
