"""Call functions of several elements that are too large to be written at each use."""

from __future__ import annotations

from collections.abc import Callable, Sequence

from .elements import Reg, type_name
from .text import Text

Emit = Callable[[Text, Sequence[Reg], Sequence[Reg]], Reg]


def call(t: Text, name: str, emit: Emit, uniform: Sequence[Reg], varying: Sequence[Reg]) -> Reg:
    """Call ``emit(text, uniform, varying)``, a float64, writing it into the module once per number of lanes.

    :param uniform: arguments that are the same in all lanes.
    :param varying: arguments with a value for each lane.
    """
    lanes = max(each.lanes for each in varying)
    symbol, double = f"@f.{name}.v{lanes}", type_name("f64", lanes)
    if symbol not in t.module.mathematics:
        body = Text(t.module, "f")
        shared = [Reg(f"%u{place}", each.kind) for place, each in enumerate(uniform)]
        own = [Reg(f"%v{place}", each.kind, lanes) for place, each in enumerate(varying)]
        result = body.splat(emit(body, shared, own), lanes)
        head = f"define internal {double} {symbol}({_typed([*shared, *own])}) #3 {{"
        lines = [head, "entry:", *body.lines, f"  ret {double} {result.text}", "}"]
        t.module.mathematics[symbol] = "\n".join(lines)
    arguments = _typed([*uniform, *(t.splat(each, lanes) for each in varying)])
    return t.pure(f"call {double} {symbol}({arguments})", "f64", lanes)


def _typed(regs: Sequence[Reg]) -> str:
    return ", ".join(f"{type_name(each.kind, each.lanes)} {each.text}" for each in regs)
