"""Join what is computed in different blocks of instructions."""

from __future__ import annotations

from collections.abc import Sequence

from .elements import Reg, literal, operand, type_name
from .text import Text


def any_lane(t: Text, condition: Reg) -> Reg:
    """Say whether a condition holds in some lane."""
    if condition.lanes == 1:
        return condition
    full = f"<{condition.lanes} x i1>"
    name = t.module.declare(f"llvm.vector.reduce.or.v{condition.lanes}i1", f"i1 %s({full})")
    return t.pure(f"call i1 @{name}({full} {condition.text})", "i1")


def phi(t: Text, sources: Sequence[tuple[Reg, str]]) -> Reg:
    """Choose a value by the block that control comes from."""
    lanes = max(reg.lanes for reg, _ in sources)
    kind = sources[0][0].kind
    pairs = ", ".join(f"[ {operand(reg, lanes)}, %{block} ]" for reg, block in sources)
    return t.fresh(f"phi {type_name(kind, lanes)} {pairs}", kind, lanes)


def open_phi(t: Text, first: Reg, block: str) -> tuple[Reg, str]:
    """Begin a loop's variable; :func:`close_phi` defines the register with its next value."""
    name, following = t.name(), t.name()
    full = type_name(first.kind, first.lanes)
    t.lines.append(
        f"  {name} = phi {full} [ {first.text}, %{block} ], [ {following}, %LATCH{following[1:]} ]"
    )
    return Reg(name, first.kind, first.lanes), following


def close_phi(t: Text, following: str, value: Reg, head: str) -> None:
    """Define the next value of a loop's variable in the present block, which jumps back to ``head``."""
    full = type_name(value.kind, value.lanes)
    kind = "i64" if full == "i64" else full
    zero = "zeroinitializer" if value.lanes > 1 else literal(0, value.kind)
    condition = "i1 true" if value.lanes == 1 else f"<{value.lanes} x i1> splat (i1 true)"
    t.lines.append(f"  {following} = select {condition}, {kind} {value.text}, {kind} {zero}")
    for position, line in enumerate(t.lines):
        if f"%LATCH{following[1:]} ]" in line:
            t.lines[position] = line.replace(f"%LATCH{following[1:]} ]", f"%{t.block} ]")
