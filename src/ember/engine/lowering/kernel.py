"""Emit elements of tensors inside loops: reads, inlined expressions, masks and guards."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager
from typing import Any

from . import access, conditions
from . import index as ix
from .elements import Reg, const, vector_literal
from .index import Linear, Var
from .module import Module
from .stages import Stage
from .tensors import Index, Map, Tensor, memory_of
from .text import Text


class NeedsNested(Exception):
    """A loop over flattened dimensions would have to divide its counter."""


class Kernel(Text):
    """A function under construction, with the loops and tensors it sees."""

    def __init__(self, module: Module, name: str, lanes: int, masked_tails: bool) -> None:
        super().__init__(module)
        self.function_name = name
        self.lanes = lanes
        self.masked_tails = masked_tails  # whether the machine masks lanes cheaply
        self.block = "start"
        self.divisions = ix.Divisions()
        self.members: set[Stage] = set()
        self.guard: Reg | None = None  # a uniform condition under which loads are in bounds
        self.flat: Var | None = None
        self.postponed: list[tuple[Tensor, Index, Reg]] = []  # writes at the end of a nest's body
        self._vars: dict[object, Var] = {}
        self._entry_values: dict[tuple[str, int], str] = {}
        self.accumulators: dict[tuple[object, int], list[str]] = {}
        self._bad: str | None = None

    # Variables --------------------------------------------------------------------------------------------
    def known_var(self, base: int, extent: int, lanes: int) -> Var:
        """Return the variable of an unrolled step, the same one for the same step of any loop."""
        key = (base, extent, lanes)
        if key not in self._vars:
            self._vars[key] = Var(base, base, min(base + lanes, extent) - 1, lanes)
        return self._vars[key]

    def opaque(self, reg: Reg, low: int, high: int) -> Linear:
        """Use a computed int64 as an index; ``low`` and ``high`` bound it."""
        if reg.const is not None:
            return Linear(int(reg.const))
        key = (reg.text, low, high)
        if key not in self._vars:
            vector = reg.text if reg.lanes > 1 else None
            base = None if reg.lanes > 1 else reg.text
            self._vars[key] = Var(base, low, high, reg.lanes, None, vector)
        return ix.of(self._vars[key])

    def index_value(self, form: Linear) -> Reg:
        """Emit an index as int64, uniform or per lane."""
        found = self.recall(("index", form.key))
        return found if found is not None else self.remember(("index", form.key), self._index_value(form))

    def _index_value(self, form: Linear) -> Reg:
        uniform = const(form.const, "i64")
        lane_steps: int = 0
        lanes = 1
        vectors: list[Reg] = []
        for var, coefficient in form.terms:
            reg = self._variable(var)
            if var.lanes > 1 and var.origin is None and var.vector is None:
                lane_steps += coefficient
                lanes = var.lanes
            if reg.lanes > 1:
                vectors.append(reg if coefficient == 1 else self.mul(reg, const(coefficient, "i64")))
                lanes = reg.lanes
            elif reg.const is not None:
                uniform = self._fold(uniform, const(int(reg.const) * coefficient, "i64"))
            else:
                scaled = reg if coefficient == 1 else self.mul(reg, const(coefficient, "i64"))
                uniform = self._fold(uniform, scaled)
        total = uniform
        if lane_steps:
            steps = vector_literal([lane * lane_steps for lane in range(lanes)], "i64")
            total = self._fold(total, Reg(steps, "i64", lanes))
        for vector in vectors:
            total = self._fold(total, vector)
        return total

    def _fold(self, a: Reg, b: Reg) -> Reg:
        if a.const is not None and b.const is not None:
            return const(int(a.const) + int(b.const), "i64")
        if a.const == 0 and a.lanes == 1:
            return b
        if b.const == 0 and b.lanes == 1:
            return a
        return self.add(a, b)

    def _variable(self, var: Var) -> Reg:
        if var.origin is None:
            if var.vector is not None:
                return Reg(var.vector, "i64", var.lanes)
            if isinstance(var.base, int):
                return const(var.base, "i64")
            return Reg(str(var.base), "i64", 1)
        which, form, divisor = var.origin
        if self.flat is not None and ix.mentions(form, self.flat):
            raise NeedsNested
        low, _ = form.range()
        shift = -(low // divisor) if low < 0 else 0
        value = self.index_value(form.shift(shift * divisor))
        by = const(divisor, "i64")
        if which == "mod":
            return self.binary("urem", value, by)
        quotient = self.binary("udiv", value, by)
        return quotient if shift == 0 else self.sub(quotient, const(shift, "i64"))

    # Reading under conditions ----------------------------------------------------------------------------
    @contextmanager
    def where(self, condition: Reg) -> Iterator[None]:
        """Read only where ``condition`` holds; elsewhere loads are kept in bounds and return anything."""
        if condition.const is not None:
            yield
            return
        mask, guard = self.mask, self.guard
        if condition.lanes > 1:
            self.mask = self.both(mask, condition)
        else:
            self.guard = condition if guard is None else self.binary("and", guard, condition)
        try:
            yield
        finally:
            self.mask, self.guard = mask, guard

    # Reading ----------------------------------------------------------------------------------------------
    def read(self, tensor: Tensor, index: Index) -> Reg:
        """Emit the element of ``tensor`` at ``index``."""
        uniform = all(var.lanes == 1 for form in index for var, _ in form.terms)
        mask = self.mask
        if uniform:
            self.mask = None
        try:
            key = (
                tensor,
                tuple(form.key for form in index),
                self.mask.text if self.mask is not None else None,
                self.guard.text if self.guard is not None else None,
            )
            found = self.recall(key)
            if found is None:
                if isinstance(tensor, Map) and (tensor.stage is None or tensor.stage in self.members):
                    found = tensor.emit(self, index)
                else:
                    found = self.load_element(tensor, index)
                self.remember(key, found)
            return found
        finally:
            self.mask = mask

    def load_element(self, tensor: Tensor, index: Index) -> Reg:
        """Emit a load of the element that is in memory now."""
        position = ix.ravel(index, tensor.shape)
        if tensor.constant is not None and not position.terms:
            return const(tensor.constant.reshape(-1)[position.const].item(), tensor.kind)
        base = self.pointer(tensor)
        invariant = tensor.storage is not None and tensor.storage[0] != "arena" and tensor.stage is None
        consecutive, start, lanes = self.pattern(position)
        if lanes == 1:
            place = self.index_value(position)
            if self.guard is not None and place.const != 0:
                place = self.select(self.guard, place, const(0, "i64"))
            return access.load(
                self, access.address(self, base, tensor.kind, place), tensor.kind, 1, None, invariant
            )
        mask = self.both(self.mask, self.splat(self.guard, lanes) if self.guard is not None else None)
        if consecutive:
            address = access.address(self, base, tensor.kind, self.index_value(start))
            return access.load(self, address, tensor.kind, lanes, mask, invariant)
        places = self.index_value(position)
        return access.gather(self, access.address(self, base, tensor.kind, places), tensor.kind, lanes, mask)

    def pattern(self, position: Linear) -> tuple[bool, Linear, int]:
        """Return whether lanes are consecutive, the position of the first, and the number of lanes."""
        lane_terms = [(var, coefficient) for var, coefficient in position.terms if var.lanes > 1]
        if not lane_terms:
            return False, position, 1
        var, coefficient = lane_terms[0]
        if len(lane_terms) > 1 or coefficient != 1 or var.vector is not None or var.origin is not None:
            return False, position, var.lanes
        rest = Linear(position.const, tuple(term for term in position.terms if term[0] is not var))
        first = Var(var.base, var.low, var.high, 1)
        return True, Linear(rest.const, (*rest.terms, (first, 1))), var.lanes

    def write(self, tensor: Tensor, index: Index, value: Reg) -> None:
        """Emit a store of the element at ``index``, for active lanes."""
        position = ix.ravel(index, tensor.shape)
        base = self.pointer(tensor)
        consecutive, start, lanes = self.pattern(position)
        if lanes == 1:
            if value.lanes > 1:
                value = self.extract(value, 0)
            access.store(
                self, access.address(self, base, tensor.kind, self.index_value(position)), value, 1, None
            )
        elif consecutive:
            access.store(
                self,
                access.address(self, base, tensor.kind, self.index_value(start)),
                value,
                lanes,
                self.mask,
            )
        else:
            places = self.index_value(position)
            access.scatter(self, access.address(self, base, tensor.kind, places), value, lanes, self.mask)

    def snapshot(self) -> tuple[Any, ...]:
        """Remember the state of the function, to return to if an attempt fails."""
        memo, undo = self.state()
        return len(self.lines), len(self.entry), self.block, memo, undo, dict(self._entry_values), self._bad

    def restore(self, state: tuple[Any, ...]) -> None:
        """Return to a remembered state."""
        lines, entry, self.block, memo, undo, self._entry_values, self._bad = state
        del self.lines[lines:], self.entry[entry:]
        self.set_state(memo, undo)
        self.mask = self.guard = self.flat = None
        self.accumulators.clear()
        self.postponed.clear()

    # Memory -----------------------------------------------------------------------------------------------
    def pointer(self, tensor: Tensor) -> str:
        """Return the address of a tensor's first element."""
        tensor = memory_of(tensor)
        if tensor.storage is None:
            raise RuntimeError(
                f"no memory for a tensor of shape {tensor.shape}: {type(tensor.stage).__name__}"
            )
        where, place = tensor.storage
        if where == "arena":
            return self._entry_value(("arena", place), f"getelementptr i8, ptr %arena, i64 {place}")
        if where == "global":
            return str(place)
        slot = self._entry_value(("slot", place), f"getelementptr ptr, ptr %table, i64 {place}")
        return self._entry_value(("table", place), f"load ptr, ptr {slot}, !invariant.load !0")

    def _entry_value(self, key: tuple[str, int], rhs: str) -> str:
        if key not in self._entry_values:
            name = self.name()
            self.entry.append(f"  {name} = {rhs}")
            self._entry_values[key] = name
        return self._entry_values[key]

    # Checks -----------------------------------------------------------------------------------------------
    def report_bad(self, bad: Reg) -> None:
        """Remember that an index was out of bounds, if ``bad`` holds in any active lane."""
        if bad.const is False:
            return
        if bad.lanes > 1 and self.mask is not None:
            bad = conditions.conjunction(self, bad, self.mask)
        if self.guard is not None:
            bad = conditions.conjunction(self, bad, self.guard)
        if self._bad is None:
            self._bad = self.alloca("i64")
            self.entry.append(f"  store i64 0, ptr {self._bad}")
        if bad.lanes > 1:
            bits = f"i{bad.lanes}"
            flag = self.fresh(f"bitcast <{bad.lanes} x i1> {bad.text} to {bits}", "i8").text
            wide = self.fresh(f"zext {bits} {flag} to i64", "i64")
        else:
            wide = self.fresh(f"zext i1 {bad.text} to i64", "i64")
        old = self.fresh(f"load i64, ptr {self._bad}", "i64")
        new = self.fresh(f"or i64 {old.text}, {wide.text}", "i64")
        self.line(f"store i64 {new.text}, ptr {self._bad}")

    # Finishing --------------------------------------------------------------------------------------------
    def finish(self, linkage: str = "internal ") -> None:
        """Close the function and add it to the module."""
        if self._bad is not None:
            self.module.checks = True
            some = self.label("bad")
            done = self.label("done")
            value = self.fresh(f"load i64, ptr {self._bad}", "i64")
            self.branch(self.fresh(f"icmp ne i64 {value.text}, 0", "i1"), some, done)
            self.start(some)
            flags = self.flags()
            self.line(f"store i64 1, ptr {self.fresh(f'getelementptr i64, ptr {flags}, i64 2', 'i64').text}")
            self.jump(done)
            self.start(done)
        self.line("ret void")
        head = f"define {linkage}void @{self.function_name}(ptr noalias %arena, ptr noalias %table) #0 {{"
        body = [head, "entry:", *self.entry, "  br label %start", "start:", *self.lines, "}"]
        self.module.functions.append("\n".join(body))

    def flags(self) -> str:
        """Return the address of the words shared with Python: limit, progress, error."""
        slot = self._entry_value(("slot", 0), "getelementptr ptr, ptr %table, i64 0")
        return self._entry_value(("table", 0), f"load ptr, ptr {slot}, !invariant.load !0")
