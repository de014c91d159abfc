"""Write programs as text, for people and for hashing."""

from __future__ import annotations

import hashlib
from typing import Any

import torch

from ember.engine.program import Program, Value


def format_program(program: Program) -> str:
    """Return a readable listing, one operation a line, with the user's lines and sites where known."""
    return "\n".join(_Listing(origins=True).program(program, ""))


def program_hash(program: Program) -> str:
    """Return a hexadecimal SHA-256 digest of what the program computes, the same in every process.

    Structure, shapes, dtypes, attributes and the constants' contents count; source lines and sites do not.
    """
    listing = _Listing(origins=False)
    digest = hashlib.sha256("\n".join(listing.program(program, "")).encode())
    for tensor in listing.constants:
        digest.update(_contents(tensor))
    return digest.hexdigest()


def _contents(tensor: torch.Tensor) -> bytes:
    return (
        tensor.detach().contiguous().view(-1).view(torch.uint8).numpy().tobytes() if tensor.numel() else b""
    )


class _Listing:
    """Numbers values in order of appearance."""

    def __init__(self, origins: bool) -> None:
        self.origins = origins
        self.names: dict[Value, str] = {}
        self.constants: list[torch.Tensor] = []

    def name(self, value: Value) -> str:
        if value not in self.names:
            self.names[value] = f"%{len(self.names)}"
        return self.names[value]

    def declare(self, value: Value) -> str:
        kind = str(value.dtype).removeprefix("torch.")
        return f"{self.name(value)}: {kind}[{', '.join(map(str, value.shape))}]"

    def text(self, item: Any) -> str:
        if isinstance(item, Value):
            return self.name(item)
        if isinstance(item, tuple):
            return "(" + ", ".join(map(self.text, item)) + ")"
        if isinstance(item, list):
            return "[" + ", ".join(map(self.text, item)) + "]"
        return repr(item)

    def program(self, program: Program, indent: str) -> list[str]:
        lines = [f"{indent}inputs {', '.join(map(self.declare, program.inputs))}"]
        for value, tensor in program.constants.items():
            lines.append(f"{indent}constant {self.declare(value)}{self._numbers(tensor)}")
            self.constants.append(tensor)
        for node in program.nodes:
            arguments = [self.text(each) for each in node.args]
            arguments += [f"{name}={self.text(each)}" for name, each in sorted(node.kwargs.items())]
            arguments += [f"{name}={self.text(each)}" for name, each in sorted(node.attributes.items())]
            line = f"{indent}{', '.join(map(self.declare, node.outputs))} = {node.op}({', '.join(arguments)})"
            if self.origins and (node.site or node.where):
                line += "  # " + " ".join(each for each in (node.site, node.where) if each)
            lines.append(line)
            for region in node.regions:
                lines.append(f"{indent}  region")
                lines.extend(self.program(region, indent + "    "))
        lines.append(f"{indent}return {', '.join(map(self.text, program.outputs))}")
        return lines

    def _numbers(self, tensor: torch.Tensor) -> str:
        if not self.origins:
            return ""
        few = tensor.reshape(-1)[:4].tolist()
        more = ", …" if tensor.numel() > 4 else ""
        return (
            " = " + ", ".join(f"{each:.6g}" if isinstance(each, float) else str(each) for each in few) + more
        )
