"""Write LLVM functions as text: typed instructions on scalars or lanes, each computed once per scope."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from contextlib import contextmanager

from .elements import BITS, BYTES, LLVM, MEMORY, Reg, const, is_float, literal, operand, type_name

_FLOAT_OPS = {"add": "fadd", "sub": "fsub", "mul": "fmul", "div": "fdiv", "rem": "frem"}
_ORDERED = {"eq": "oeq", "ne": "une", "lt": "olt", "le": "ole", "gt": "ogt", "ge": "oge"}


class Module:
    """The functions, globals and declarations of one compilation."""

    def __init__(self) -> None:
        self.functions: list[str] = []
        self.declarations: dict[str, str] = {}
        self.globals: dict[str, str] = {}
        self.symbols: set[str] = set()  # external functions to be resolved when loading
        self.mathematics: dict[str, str] = {}  # elementary functions, one per number of lanes
        self.num_calls = 0  # of these
        self.num_parts = 0

    def declare(self, name: str, signature: str) -> str:
        """Declare an intrinsic or external function once; ``signature`` has ``%s`` for its name."""
        self.declarations.setdefault(name, "declare " + signature % f"@{name}")
        return name

    def text(self) -> str:
        """Return the whole module."""
        parts = [
            *self.globals.values(),
            *self.declarations.values(),
            *self.mathematics.values(),
            *self.functions,
        ]
        return "\n".join(parts) + "\n"


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

    def integer_global(self, value: int) -> str:
        """Return the address of a constant 32-bit integer, as Fortran wants its arguments."""
        name = f"@i32.{value}" if value >= 0 else f"@i32.m{-value}"
        self.module.globals[name] = f"{name} = private unnamed_addr constant i32 {value}, align 4"
        return name

    def char_global(self, char: str) -> str:
        """Return the address of a constant character."""
        name = f"@char.{char}"
        self.module.globals[name] = f'{name} = private unnamed_addr constant [2 x i8] c"{char}\\00", align 1'
        return name

    def float_global(self, value: float, kind: str) -> str:
        """Return the address of a constant number."""
        bits = literal(value, kind)
        name = f"@{kind}.{bits}"
        self.module.globals[name] = f"{name} = private unnamed_addr constant {LLVM[kind]} {bits}, align 8"
        return name

    def fortran(self, library: str, name: str, *arguments: str) -> None:
        """Call a BLAS or LAPACK routine; all arguments are addresses."""
        symbol = f"ember_{library}_{name}"
        self.module.declare(symbol, f"void %s({', '.join(['ptr'] * len(arguments))})")
        self.module.symbols.add(f"{library}.{name}")
        self.line(f"call void @{symbol}({', '.join('ptr ' + argument for argument in arguments)})")

    def bitcast(self, a: Reg, kind: str) -> Reg:
        """Reinterpret the bits."""
        source, target = type_name(a.kind, a.lanes), type_name(kind, a.lanes)
        return self.pure(f"bitcast {source} {operand(a, a.lanes)} to {target}", kind, a.lanes)

    def convert(self, a: Reg, kind: str) -> Reg:
        """Convert elements to another kind as torch does."""
        if a.kind == kind:
            return a
        if a.const is not None and a.lanes == 1:
            value = a.const
            if kind == "i1":
                return const(bool(value), kind)
            if is_float(kind):
                return const(float(value), kind)
            if not is_float(a.kind):
                return const(int(value), kind)
        source, target = type_name(a.kind, a.lanes), type_name(kind, a.lanes)
        text = operand(a, a.lanes)
        if kind == "i1":
            zero = const(0.0 if is_float(a.kind) else 0, a.kind)
            return self.compare("ne", a, zero)
        if is_float(a.kind) and is_float(kind):
            opcode = "fpext" if kind == "f64" else "fptrunc"
        elif is_float(a.kind):
            # Out-of-range values wrap through 64 bits, as the conversion instructions do; no undefined result.
            wide = self.fp_to_integer(a)
            return self.convert(wide, kind)
        elif is_float(kind):
            opcode = "uitofp" if a.kind in ("u8", "i1") else "sitofp"
        elif BITS[kind] < BITS[a.kind]:
            opcode = "trunc"
        elif BITS[kind] == BITS[a.kind]:
            return a._replace(kind=kind)
        else:
            opcode = "zext" if a.kind in ("u8", "i1") else "sext"
        return self.pure(f"{opcode} {source} {text} to {target}", kind, a.lanes)

    def fp_to_integer(self, a: Reg) -> Reg:
        """Truncate floats to int64; what does not fit becomes the smallest integer, as on x86."""
        source, target = type_name(a.kind, a.lanes), type_name("i64", a.lanes)
        fits = self.compare("lt", self.unary("fabs", a), const(2.0**63, a.kind))
        safe = self.select(fits, a, const(0.0, a.kind))
        number = self.pure(f"fptosi {source} {operand(safe, a.lanes)} to {target}", "i64", a.lanes)
        return self.select(fits, number, const(-(2**63), "i64"))

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

    def extract_single(self, reg: Reg) -> Reg:
        """Turn a vector of one lane into a scalar."""
        rhs = f"extractelement <1 x {LLVM[reg.kind]}> {reg.text}, i64 0"
        return self.pure(rhs, reg.kind, 1)

    def any_lane(self, condition: Reg) -> Reg:
        """Say whether a condition holds in some lane."""
        if condition.lanes == 1:
            return condition
        full = f"<{condition.lanes} x i1>"
        name = self.module.declare(f"llvm.vector.reduce.or.v{condition.lanes}i1", f"i1 %s({full})")
        return self.pure(f"call i1 @{name}({full} {condition.text})", "i1")

    # Joining blocks ---------------------------------------------------------------------------------------
    def phi(self, sources: Sequence[tuple[Reg, str]]) -> Reg:
        """Choose a value by the block that control comes from."""
        lanes = max(reg.lanes for reg, _ in sources)
        kind = sources[0][0].kind
        pairs = ", ".join(f"[ {operand(reg, lanes)}, %{block} ]" for reg, block in sources)
        return self.fresh(f"phi {type_name(kind, lanes)} {pairs}", kind, lanes)

    def open_phi(self, first: Reg, block: str) -> tuple[Reg, str]:
        """Begin a loop's variable; :meth:`close_phi` defines the register with its next value."""
        name, following = self.name(), self.name()
        full = type_name(first.kind, first.lanes)
        self.lines.append(f"  {name} = phi {full} [ {first.text}, %{block} ], [ {following}, %LATCH{following[1:]} ]")
        return Reg(name, first.kind, first.lanes), following

    def close_phi(self, following: str, value: Reg, head: str) -> None:
        """Define the next value of a loop's variable in the present block, which jumps back to ``head``."""
        full = type_name(value.kind, value.lanes)
        kind = "i64" if full == "i64" else full
        zero = "zeroinitializer" if value.lanes > 1 else literal(0, value.kind)
        condition = "i1 true" if value.lanes == 1 else f"<{value.lanes} x i1> splat (i1 true)"
        self.lines.append(f"  {following} = select {condition}, {kind} {value.text}, {kind} {zero}")
        for position, line in enumerate(self.lines):
            if f"%LATCH{following[1:]} ]" in line:
                self.lines[position] = line.replace(f"%LATCH{following[1:]} ]", f"%{self.block} ]")

    # Memory -----------------------------------------------------------------------------------------------
    def address(self, base: str, kind: str, position: Reg) -> str:
        """Compute addresses of elements at positions; one per lane if these differ."""
        if position.const == 0:
            return base
        cell = MEMORY[kind]
        if position.lanes == 1:
            return self.pure(f"getelementptr {cell}, ptr {base}, i64 {position.text}", "i64").text
        rhs = f"getelementptr {cell}, ptr {base}, <{position.lanes} x i64> {position.text}"
        return self.pure(rhs, "i64", position.lanes).text

    def load(self, address: str, kind: str, lanes: int, mask: Reg | None, invariant: bool) -> Reg:
        """Load consecutive elements; inactive lanes hold zero."""
        suffix = ", !invariant.load !0" if invariant else ""
        size = BYTES[kind]
        if lanes == 1:
            reg = self.fresh(f"load {MEMORY[kind]}, ptr {address}, align {size}{suffix}", kind)
        elif mask is None:
            reg = self.fresh(
                f"load <{lanes} x {MEMORY[kind]}>, ptr {address}, align {size}{suffix}", kind, lanes
            )
        else:
            cell = MEMORY[kind]
            short = f"v{lanes}{_suffix(kind)}"
            full = f"<{lanes} x {cell}>"
            name = self.module.declare(
                f"llvm.masked.load.{short}.p0", f"{full} %s(ptr, i32, <{lanes} x i1>, {full})"
            )
            arguments = f"ptr {address}, i32 {size}, <{lanes} x i1> {self.splat(mask, lanes).text}"
            reg = self.fresh(f"call {full} @{name}({arguments}, {full} zeroinitializer){suffix}", kind, lanes)
        return self._from_memory(reg)

    def gather(self, addresses: str, kind: str, lanes: int, mask: Reg | None) -> Reg:
        """Load one element per lane from its own address; inactive lanes hold zero."""
        cell, short = MEMORY[kind], f"v{lanes}{_suffix(kind)}"
        full = f"<{lanes} x {cell}>"
        active = f"splat (i1 true)" if mask is None else self.splat(mask, lanes).text  # noqa: F541
        name = self.module.declare(
            f"llvm.masked.gather.{short}.v{lanes}p0",
            f"{full} %s(<{lanes} x ptr>, i32, <{lanes} x i1>, {full})",
        )
        arguments = f"<{lanes} x ptr> {addresses}, i32 {BYTES[kind]}, <{lanes} x i1> {active}"
        return self._from_memory(
            self.fresh(f"call {full} @{name}({arguments}, {full} zeroinitializer)", kind, lanes)
        )

    def store(self, address: str, value: Reg, lanes: int, mask: Reg | None) -> None:
        """Store consecutive elements of the active lanes."""
        size, cell = BYTES[value.kind], MEMORY[value.kind]
        value = self._to_memory(self.splat(value, lanes) if lanes > 1 else value)
        if lanes == 1:
            self.line(f"store {cell} {value.text}, ptr {address}, align {size}")
        elif mask is None:
            self.line(f"store <{lanes} x {cell}> {value.text}, ptr {address}, align {size}")
        else:
            full, short = f"<{lanes} x {cell}>", f"v{lanes}{_suffix(value.kind)}"
            name = self.module.declare(
                f"llvm.masked.store.{short}.p0", f"void %s({full}, ptr, i32, <{lanes} x i1>)"
            )
            active = self.splat(mask, lanes).text
            self.line(
                f"call void @{name}({full} {value.text}, ptr {address}, i32 {size}, <{lanes} x i1> {active})"
            )

    def scatter(self, addresses: str, value: Reg, lanes: int, mask: Reg | None) -> None:
        """Store one element per active lane to its own address; addresses must differ."""
        cell, short = MEMORY[value.kind], f"v{lanes}{_suffix(value.kind)}"
        value = self._to_memory(self.splat(value, lanes))
        active = "splat (i1 true)" if mask is None else self.splat(mask, lanes).text
        full = f"<{lanes} x {cell}>"
        name = self.module.declare(
            f"llvm.masked.scatter.{short}.v{lanes}p0",
            f"void %s({full}, <{lanes} x ptr>, i32, <{lanes} x i1>)",
        )
        pointers = f"<{lanes} x ptr> {addresses}, i32 {BYTES[value.kind]}"
        self.line(f"call void @{name}({full} {value.text}, {pointers}, <{lanes} x i1> {active})")

    def _from_memory(self, reg: Reg) -> Reg:
        if reg.kind != "i1":
            return reg
        full = "i8" if reg.lanes == 1 else f"<{reg.lanes} x i8>"
        zero = "0" if reg.lanes == 1 else "zeroinitializer"
        return self.fresh(f"icmp ne {full} {reg.text}, {zero}", "i1", reg.lanes)

    def _to_memory(self, reg: Reg) -> Reg:
        if reg.kind != "i1":
            return reg
        if reg.const is not None:
            return Reg("1" if reg.const else "0", "i8", 1) if reg.lanes == 1 else self._zext(reg)
        return self._zext(reg)

    def _zext(self, reg: Reg) -> Reg:
        full = "i8" if reg.lanes == 1 else f"<{reg.lanes} x i8>"
        return self.pure(
            f"zext {type_name('i1', reg.lanes)} {operand(reg, reg.lanes)} to {full}", "i8", reg.lanes
        )


def _suffix(kind: str) -> str:
    return kind if is_float(kind) else f"i{8 * BYTES[kind]}"


def vector_literal(values: Sequence[int], kind: str) -> str:
    """Write a constant vector."""
    return "<" + ", ".join(f"{LLVM[kind]} {literal(value, kind)}" for value in values) + ">"
