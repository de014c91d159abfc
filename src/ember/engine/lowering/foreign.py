"""Call scalar functions of libm and SciPy from emitted code, lane by lane."""

from __future__ import annotations

from .elements import Reg
from .text import Text

LIBM = "libm"
SCIPY = "special"


def external(t: Text, library: str, name: str, *elements: Reg) -> Reg:
    """Call a function of float64; SciPy's take one more word, which must be zero."""
    kind = elements[0].kind
    wide = [t.convert(each, "f64") for each in elements]
    lanes = max(each.lanes for each in wide)
    symbol = f"ember_{library}_{name}"
    extra = ", i32" if library == SCIPY else ""
    t.module.declare(symbol, f"double %s({', '.join(['double'] * len(wide))}{extra}) #2")
    t.module.symbols.add(f"{library}.{name}")
    parts = []
    for lane in range(lanes):
        arguments = ", ".join(f"double {t.extract(each, lane).text}" for each in wide)
        trailing = ", i32 0" if extra else ""
        parts.append(t.pure(f"call double @{symbol}({arguments}{trailing})", "f64"))
    return t.convert(t.assemble(parts) if lanes > 1 else parts[0], kind)
