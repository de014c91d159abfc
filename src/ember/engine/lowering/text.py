"""Write LLVM functions as text: typed instructions on scalars or lanes, each computed once per scope."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from contextlib import contextmanager

from . import conversion
from .elements import BITS, LLVM, Reg, const, is_float, operand, type_name
from .module import Module

_FLOAT_OPS = {"add": "fadd", "sub": "fsub", "mul": "fmul", "div": "fdiv", "rem": "frem"}
_ORDERED = {"eq": "oeq", "ne": "une", "lt": "olt", "le": "ole", "gt": "ogt", "ge": "oge"}


class Text:
    """The instructions of one function under construction."""

    def __init__(self, module: Module, prefix: str = "v") -> None:
        self.module = module
        self.lines: list[str] = []
        self.entry: list[str] = []
        self.mask: Reg | None = None  # active lanes, None for all
        self._memo: dict[object, Reg] = {}
        self._undo: list[list[object]] = [[]]
        self._serial = 0
        self._prefix = prefix
        self.block = "entry"

    # Scopes -----------------------------------------------------------------------------------------------
    @contextmanager
    def scope(self) -> Iterator[None]:
        """Forget, at the end, what was computed inside, because it does not dominate what follows."""
        self._undo.append([])
        try:
            yield
        finally:
            for key in self._undo.pop():
                del self._memo[key]

    def state(self) -> tuple[dict[object, Reg], list[list[object]]]:
        """Return a copy of what is remembered."""
        return dict(self._memo), [list(keys) for keys in self._undo]

    def set_state(self, memo: dict[object, Reg], undo: list[list[object]]) -> None:
        """Remember exactly this."""
        self._memo, self._undo = memo, undo

    def recall(self, key: object) -> Reg | None:
        """Return what was remembered under ``key`` in the open scopes."""
        return self._memo.get(key)

    def remember(self, key: object, reg: Reg) -> Reg:
        """Remember a register until the innermost scope ends."""
        if key not in self._memo:
            self._undo[-1].append(key)
        self._memo[key] = reg
        return reg

    def name(self) -> str:
        """Make a new register name."""
        self._serial += 1
        return f"%{self._prefix}{self._serial}"

    def label(self, hint: str) -> str:
        """Make a new block name."""
        self._serial += 1
        return f"{hint}{self._serial}"

    def start(self, label: str) -> None:
        """Begin a basic block."""
        self.lines.append(f"{label}:")
        self.block = label

    def jump(self, label: str) -> None:
        """End the block with a jump."""
        self.lines.append(f"  br label %{label}")

    def branch(self, condition: Reg, if_true: str, if_false: str) -> None:
        """End the block with a conditional jump."""
        self.lines.append(f"  br i1 {condition.text}, label %{if_true}, label %{if_false}")

    def line(self, text: str) -> None:
        """Append an instruction without result."""
        self.lines.append("  " + text)

    def pure(self, rhs: str, kind: str, lanes: int = 1) -> Reg:
        """Append an instruction whose result depends on its operands only, unless it is there already."""
        found = self._memo.get(rhs)
        if found is not None and found.kind == kind:
            return found
        reg = Reg(self.name(), kind, lanes)
        self.lines.append(f"  {reg.text} = {rhs}")
        return self.remember(rhs, reg)

    def fresh(self, rhs: str, kind: str, lanes: int = 1) -> Reg:
        """Append an instruction that must be executed here."""
        reg = Reg(self.name(), kind, lanes)
        self.lines.append(f"  {reg.text} = {rhs}")
        return reg

    def alloca(self, kind: str, lanes: int = 1, count: int = 1) -> str:
        """Reserve stack space for one register; LLVM makes it a register again."""
        name = self.name()
        size = "" if count == 1 else f", i64 {count}"
        self.entry.append(f"  {name} = alloca {type_name(kind, lanes)}{size}, align 64")
        return name

    # Widening ---------------------------------------------------------------------------------------------
    def splat(self, reg: Reg, lanes: int) -> Reg:
        """Give every lane the same value."""
        if reg.lanes == lanes:
            return reg
        if reg.const is not None:
            return Reg(operand(reg, lanes), reg.kind, lanes)
        vector, one = type_name(reg.kind, lanes), LLVM[reg.kind]
        first = self.pure(f"insertelement {vector} poison, {one} {reg.text}, i64 0", reg.kind, lanes)
        return self.pure(
            f"shufflevector {vector} {first.text}, {vector} poison, <{lanes} x i32> zeroinitializer",
            reg.kind,
            lanes,
        )

    def align(self, *regs: Reg) -> tuple[int, list[str]]:
        """Give operands a common number of lanes; return it and their texts."""
        lanes = max(reg.lanes for reg in regs)
        if lanes == 1:
            return 1, [reg.text for reg in regs]
        return lanes, [self.splat(reg, lanes).text for reg in regs]

    # Arithmetic -------------------------------------------------------------------------------------------
    def binary(self, opcode: str, a: Reg, b: Reg, flags: str = "") -> Reg:
        """Append a two-operand LLVM instruction on one kind."""
        lanes, (x, y) = self.align(a, b)
        return self.pure(f"{opcode} {flags}{type_name(a.kind, lanes)} {x}, {y}", a.kind, lanes)

    def arith(self, which: str, a: Reg, b: Reg) -> Reg:
        """Add, sub or mul elements of one kind; div and rem for floats."""
        if is_float(a.kind):
            return self.binary(_FLOAT_OPS[which], a, b)
        return self.binary(which, a, b)

    def add(self, a: Reg, b: Reg) -> Reg:
        """Add."""
        return self.arith("add", a, b)

    def sub(self, a: Reg, b: Reg) -> Reg:
        """Subtract."""
        return self.arith("sub", a, b)

    def mul(self, a: Reg, b: Reg) -> Reg:
        """Multiply."""
        return self.arith("mul", a, b)

    def div(self, a: Reg, b: Reg) -> Reg:
        """Divide floats."""
        return self.arith("div", a, b)

    def product(self, a: Reg, b: Reg) -> Reg:
        """Multiply, as a term of a sum that may be fused with its addition."""
        return self.binary("fmul", a, b, "contract ") if is_float(a.kind) else self.mul(a, b)

    def accumulate_term(self, a: Reg, b: Reg) -> Reg:
        """Add a term made by :meth:`product`."""
        return self.binary("fadd", a, b, "contract ") if is_float(a.kind) else self.add(a, b)

    def neg(self, a: Reg) -> Reg:
        """Change the sign."""
        if is_float(a.kind):
            return self.pure(f"fneg {type_name(a.kind, a.lanes)} {operand(a, a.lanes)}", a.kind, a.lanes)
        return self.binary("sub", const(0, a.kind), a)

    def fma(self, a: Reg, b: Reg, c: Reg) -> Reg:
        """Compute a * b + c, fused where the machine can."""
        lanes, texts = self.align(a, b, c)
        return self.intrinsic("fmuladd", a.kind, lanes, texts)

    def intrinsic(self, which: str, kind: str, lanes: int, texts: Sequence[str], extra: str = "") -> Reg:
        """Call ``llvm.<which>`` whose operands and result have the same type."""
        full = type_name(kind, lanes)
        suffix = (f"v{lanes}" if lanes > 1 else "") + (kind if is_float(kind) else f"i{BITS[kind]}")
        name = f"llvm.{which}.{suffix}"
        trailing = ", i1" if extra else ""
        self.module.declare(name, f"{full} %s({', '.join([full] * len(texts))}{trailing})")
        operands = ", ".join(f"{full} {text}" for text in texts)
        return self.pure(f"call {full} @{name}({operands}{extra})", kind, lanes)

    def scale(self, a: Reg, power: Reg) -> Reg:
        """Multiply eight float64 by two to a power each, by AVX-512's instruction, which rounds once."""
        full = type_name("f64", 8)
        name = "llvm.x86.avx512.mask.scalef.pd.512"
        self.module.declare(name, f"{full} %s({full}, {full}, {full}, i8, i32)")
        operands = f"{full} {self.splat(a, 8).text}, {full} {self.splat(power, 8).text}"
        return self.pure(f"call {full} @{name}({operands}, {full} zeroinitializer, i8 -1, i32 4)", "f64", 8)

    def unary(self, which: str, a: Reg, extra: str = "") -> Reg:
        """Call a one-operand intrinsic."""
        return self.intrinsic(which, a.kind, a.lanes, [operand(a, a.lanes)], extra)

    def compare(self, which: str, a: Reg, b: Reg) -> Reg:
        """Compare elements of one kind; NaN compares as unequal."""
        lanes, (x, y) = self.align(a, b)
        full = type_name(a.kind, lanes)
        if is_float(a.kind):
            return self.pure(f"fcmp {_ORDERED[which]} {full} {x}, {y}", "i1", lanes)
        unsigned = a.kind in ("u8", "i1") and which not in ("eq", "ne")
        code = which if which in ("eq", "ne") else ("u" if unsigned else "s") + which
        return self.pure(f"icmp {code} {full} {x}, {y}", "i1", lanes)

    def isnan(self, a: Reg) -> Reg:
        """Say whether elements are NaN."""
        text = operand(a, a.lanes)
        return self.pure(f"fcmp uno {type_name(a.kind, a.lanes)} {text}, {text}", "i1", a.lanes)

    def select(self, condition: Reg, a: Reg, b: Reg) -> Reg:
        """Choose between elements."""
        if condition.const is not None:
            return a if condition.const else b
        if a == b:
            return a
        if condition.lanes == 1:
            lanes, (x, y) = self.align(a, b)
            full = type_name(a.kind, lanes)
            return self.pure(f"select i1 {condition.text}, {full} {x}, {full} {y}", a.kind, lanes)
        lanes, (c, x, y) = self.align(condition, a, b)
        full = type_name(a.kind, lanes)
        return self.pure(f"select <{lanes} x i1> {c}, {full} {x}, {full} {y}", a.kind, lanes)

    def both(self, a: Reg | None, b: Reg | None) -> Reg | None:
        """Intersect two masks, None standing for everything."""
        if a is None or b is None:
            return b if a is None else a
        return self.binary("and", a, b)

    def invert(self, a: Reg) -> Reg:
        """Negate a bool."""
        return self.binary("xor", a, const(True, "i1"))

    def bitcast(self, a: Reg, kind: str) -> Reg:
        """Reinterpret the bits."""
        source, target = type_name(a.kind, a.lanes), type_name(kind, a.lanes)
        return self.pure(f"bitcast {source} {operand(a, a.lanes)} to {target}", kind, a.lanes)

    def convert(self, a: Reg, kind: str) -> Reg:
        """Convert elements to another kind as torch does."""
        return a if a.kind == kind else conversion.convert(self, a, kind)

    # Lanes ------------------------------------------------------------------------------------------------
    def extract(self, reg: Reg, lane: int) -> Reg:
        """Take one lane."""
        if reg.lanes == 1:
            return reg
        return self.pure(
            f"extractelement {type_name(reg.kind, reg.lanes)} {reg.text}, i64 {lane}", reg.kind, 1
        )

    def assemble(self, parts: Sequence[Reg]) -> Reg:
        """Make a vector of scalars."""
        kind, lanes = parts[0].kind, len(parts)
        full = type_name(kind, lanes)
        text = "poison"
        for lane, part in enumerate(parts):
            text = self.pure(
                f"insertelement {full} {text}, {LLVM[kind]} {part.text}, i64 {lane}", kind, lanes
            ).text
        return Reg(text, kind, lanes)

    def shuffle(self, reg: Reg, order: Sequence[int]) -> Reg:
        """Permute or narrow lanes."""
        full = type_name(reg.kind, reg.lanes)
        pattern = ", ".join(f"i32 {lane}" for lane in order)
        rhs = (
            f"shufflevector {full} {operand(reg, reg.lanes)}, {full} poison, <{len(order)} x i32> <{pattern}>"
        )
        narrow = self.pure(rhs, reg.kind, len(order))
        return self.extract_single(narrow) if len(order) == 1 else narrow

    def shuffle_two(self, a: Reg, b: Reg, order: Sequence[int]) -> Reg:
        """Choose lanes from two registers side by side."""
        full = type_name(a.kind, a.lanes)
        pattern = ", ".join(f"i32 {lane}" for lane in order)
        x, y = operand(a, a.lanes), operand(b, b.lanes)
        rhs = f"shufflevector {full} {x}, {full} {y}, <{len(order)} x i32> <{pattern}>"
        return self.pure(rhs, a.kind, len(order))

    def extract_single(self, reg: Reg) -> Reg:
        """Turn a vector of one lane into a scalar."""
        rhs = f"extractelement <1 x {LLVM[reg.kind]}> {reg.text}, i64 0"
        return self.pure(rhs, reg.kind, 1)
