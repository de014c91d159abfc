"""Put all values of a discrete site in a batch dimension of its own, left of the plates."""

from __future__ import annotations

import math
from collections.abc import Iterable
from typing import Any, NamedTuple

import torch
from torch import Tensor

from ember.errors import message
from ember.poutine.enum_allocator import ENUM_ALLOCATOR
from ember.poutine.messenger import Messenger
from ember.poutine.runtime import Message

CONFLICT = -1  # in place of a variable's id: several variables in scope use this dim

LARGEST_TABLE = 2**30  # numbers: 8 GiB in double precision

_SHORTAGE = -40  # dims further left are scarce: torch has 64


class _Known(NamedTuple):
    """What later sites must know about an earlier one."""

    depth: int  # number of markov contexts that it is in
    counters: dict[str, int]  # iteration of each sequential plate that it is in
    dims: dict[int, int]  # enumeration dims of its value → ids


class EnumMessenger(Messenger):
    """Enumerate the latent sites with ``infer={"enumerate": "parallel"}``.

    Such a site's value has all values of its support along one dim left of the plates. A dim can be used
    again by sites that see each other neither through ``markov`` nor through a sequential plate. Every site
    gets ``infer["_dim_to_id"]``: the variables behind the enumeration dims that it may depend on; enumerated
    ones also get ``infer["_enumerate_dim"]``.

    :param first_available_dim: rightmost dim that may be used; all plates must be right of it.
    :param reserved: dims that may not be used, as those of a guide whose values are replayed.
    :raises ValueError: at sites that cannot be enumerated, and for dims that collide.
    """

    def __init__(self, first_available_dim: int | None = None, reserved: Iterable[int] = ()) -> None:
        if first_available_dim is not None and first_available_dim >= 0:
            raise ValueError(
                message(
                    "enum: first_available_dim must be negative",
                    expected="a dim left of all plates, e.g. -1 - max_plate_nesting",
                    actual=f"first_available_dim={first_available_dim}",
                )
            )
        self.first_available_dim = -1 if first_available_dim is None else first_available_dim
        self._reserved = frozenset(reserved)
        self._known: dict[str, _Known] = {}  # earlier sites whose values have enumeration dims
        self._always: list[str] = []  # those in no markov context

    def __enter__(self) -> Any:
        self._reset()
        return super().__enter__()

    def _reset(self) -> None:
        self._known, self._always = {}, []

    def _pyro_sample(self, msg: Message) -> None:
        if type(msg["fn"]).__name__ == "_Subsample":
            return
        infer = msg["infer"]
        inherited = infer.get("_dim_to_id", {})  # of a value that is replayed
        scope = self._scope(msg)
        if msg["done"] or msg["is_observed"] or msg["value"] is not None:
            for dim, variable in self._dims_of(msg, inherited).items():
                scope[dim] = CONFLICT if scope.get(dim, variable) != variable else variable
        elif infer.get("enumerate") == "parallel":
            dim, variable = self._allocate(msg, scope)
            msg["value"] = self._values(msg, dim, scope)
            msg["done"] = True
            infer["_enumerate_dim"] = dim
            infer["_enumerated_value"] = msg["value"]
            scope[dim] = variable
        elif infer.get("enumerate") not in (None, "sequential"):
            _refuse_kind(msg)
        infer["_dim_to_id"] = scope
        infer["_first_enumerate_dim"] = self.first_available_dim
        if scope:
            _refuse_large(msg)

    def _pyro_post_sample(self, msg: Message) -> None:
        infer = msg["infer"]
        if "_dim_to_id" not in infer or type(msg["fn"]).__name__ == "_Subsample":
            return
        scope = infer["_dim_to_id"]
        enumerated = infer.pop("_enumerated_value", None)
        if enumerated is not None and msg["value"] is not enumerated:  # a handler further out gave another
            del scope[infer.pop("_enumerate_dim")]
        dims = self._dims_of(msg, scope)
        if dims:
            name, depth = str(msg["name"]), infer.get("_markov_depth", 0)
            self._known[name] = _Known(depth, _counters(msg), dims)
            if not depth:
                self._always.append(name)

    def _dims_of(self, msg: Message, scope: dict[int, int]) -> dict[int, int]:
        """Return the enumeration dims of a latent site's value, with ids."""
        value = msg["value"]
        own = msg["infer"].get("_enumerate_dim")
        found = {} if own is None else {own: scope[own]}
        if msg["is_observed"] or not isinstance(value, Tensor):
            return found
        event_dim = int(getattr(msg["fn"], "event_dim", 0))
        batch = value.shape[: value.ndim - event_dim]
        for dim, variable in scope.items():
            if -dim <= len(batch) and batch[dim] > 1:
                found[dim] = variable
        return found

    def _scope(self, msg: Message) -> dict[int, int]:
        """Return the enumeration dims, with ids, of the values that this site may depend on."""
        seen = msg["infer"].get("_markov_scope", {})
        counters = _counters(msg)
        scope: dict[int, int] = {}
        # Sites in no markov context are always in scope; of the others, those that the contexts name.
        for name in [*self._always, *(name for name in seen if name in self._known)]:
            known = self._known[name]
            if known.depth > seen.get(name, 0):
                continue
            if any(counters.get(plate, count) != count for plate, count in known.counters.items()):
                continue
            for dim, variable in known.dims.items():
                scope[dim] = CONFLICT if scope.get(dim, variable) != variable else variable
        return scope

    def _allocate(self, msg: Message, scope: dict[int, int]) -> tuple[int, int]:
        """Return a free dim, and a new id."""
        first = self._first(msg)
        taken = {*scope, *self._reserved, *self._kept_dims(msg)}
        if _counters(msg):
            # Iterations of a sequential plate could share dims, but then nothing after the plate could
            # depend on several of them: so they do only where dims run short.
            roomy = taken.union(*(known.dims for known in self._known.values()))
            dim, variable = ENUM_ALLOCATOR.allocate(roomy, first)
            if dim >= _SHORTAGE:
                return dim, variable
        return ENUM_ALLOCATOR.allocate(taken, first)

    def _values(self, msg: Message, dim: int, scope: dict[int, int]) -> Tensor:
        """Return what the site's value is along the new dim; ``scope`` are the dims it may depend on."""
        return _all_values(msg, dim)

    def _kept_dims(self, msg: Message) -> set[int]:
        """Return the dims of sites that will be in scope together with this one, though not in its own."""
        names = msg["infer"].get("_markov_kept", ())
        return {dim for name in names if name in self._known for dim in self._known[name].dims}

    def _first(self, msg: Message) -> int:
        for frame in msg["cond_indep_stack"]:
            if frame.dim is not None and frame.dim <= self.first_available_dim:
                raise ValueError(
                    message(
                        f"max_plate_nesting={-1 - self.first_available_dim} is too small for plate "
                        f"'{frame.name}', whose dim collides with enumeration dims",
                        site=msg["name"],
                        plates=msg["cond_indep_stack"],
                        expected=f"max_plate_nesting >= {-frame.dim}",
                        actual=f"a plate at dim={frame.dim}, first_available_dim={self.first_available_dim}",
                        fix=f"use max_plate_nesting={-frame.dim}, i.e. first_available_dim={frame.dim - 1}",
                    )
                )
        return self.first_available_dim


def _counters(msg: Message) -> dict[str, int]:
    plates = msg["cond_indep_stack"]
    return {frame.name: frame.counter for frame in plates if frame.dim is None} if plates else {}


def _refuse_large(msg: Message) -> None:
    """Refuse a site whose log probability would hardly fit in memory."""
    fn, value = msg["fn"], msg["value"]
    batch: tuple[int, ...] = tuple(getattr(fn, "batch_shape", ()))
    if isinstance(value, Tensor):
        own = tuple(value.shape[: value.ndim - len(getattr(fn, "event_shape", ()))])
        length = max(len(own), len(batch))
        pairs = zip((1,) * (length - len(own)) + own, (1,) * (length - len(batch)) + batch, strict=True)
        batch = tuple(max(pair) for pair in pairs)
    if math.prod(batch) > LARGEST_TABLE:
        raise ValueError(
            message(
                f"the log probability at site '{msg['name']}' would have {math.prod(batch):,} elements, one "
                "for each combination of the enumerated sites that it depends on",
                site=msg["name"],
                plates=msg["cond_indep_stack"],
                expected=f"no more than {LARGEST_TABLE:,} elements",
                actual=f"batch shape {batch}",
                fix="let the site depend on fewer enumerated sites, or sample some of them in the guide",
            )
        )


def support_values(fn: Any) -> Tensor:
    """Return all values of a distribution along a leading dim, ``[K, *event_shape]``."""
    values = fn.enumerate_support(expand=False)
    return values.reshape(values.shape[:1] + torch.Size(fn.event_shape))


def _all_values(msg: Message, dim: int) -> Tensor:
    """Return the site's values along ``dim``, broadcast over other batch dims unless ``expand`` is set."""
    fn, infer = msg["fn"], msg["infer"]
    if infer.get("num_samples") is not None:
        raise ValueError(
            message(
                f"site '{msg['name']}' asks for num_samples, which enumeration does not offer",
                site=msg["name"],
                plates=msg["cond_indep_stack"],
                expected="the whole support to be enumerated",
                actual=f"num_samples={infer['num_samples']}",
                fix="leave num_samples out, let a guide draw for TraceEnum_ELBO, or use TraceTMC_ELBO",
            )
        )
    if not getattr(fn, "has_enumerate_support", False):
        _refuse(msg, "its distribution has no finite support to list")
    try:
        values = support_values(fn)
    except NotImplementedError as error:
        _refuse(msg, str(error), error)
    batch = fn.batch_shape
    if -dim <= len(batch) and batch[dim] > 1:
        raise ValueError(
            message(
                f"Enumeration dim conflict at site '{msg['name']}': its distribution already varies along "
                f"dim {dim}",
                site=msg["name"],
                plates=msg["cond_indep_stack"],
                expected=f"a distribution that depends only on enumerated sites in scope, free at dim {dim}",
                actual=f"batch_shape {tuple(batch)}",
                fix="let markov have a longer history, or, if there is no enumerated site, declare the batch "
                "dimension by a plate and let max_plate_nesting count it",
            )
        )
    event = values.shape[1:]
    values = values.reshape(values.shape[:1] + (1,) * (-1 - dim) + event)
    if infer.get("expand"):
        padded = (1,) * (-dim - len(batch)) + tuple(batch)
        target = [*padded]
        target[dim] = values.shape[0]
        values = values.expand(torch.Size(target) + event)
    return values


def _refuse_kind(msg: Message) -> None:
    raise ValueError(
        message(
            f"site '{msg['name']}' asks for an unknown kind of enumeration",
            site=msg["name"],
            plates=msg["cond_indep_stack"],
            expected="infer={'enumerate': ...} with 'parallel', 'sequential' or None",
            actual=f"enumerate={msg['infer']['enumerate']!r}",
        )
    )


def _refuse(msg: Message, why: str, cause: Exception | None = None) -> None:
    fix = "leave infer={'enumerate': ...} out at this site, or truncate the distribution"
    if getattr(msg["fn"], "reinterpreted_batch_ndims", 0):
        fix = "declare the elements by a plate rather than .to_event(n), so that each is summed by itself"
    raise ValueError(
        message(
            f"site '{msg['name']}' cannot be enumerated: {why}",
            site=msg["name"],
            plates=msg["cond_indep_stack"],
            expected="a distribution with enumerate_support, such as Categorical or Bernoulli",
            actual=repr(msg["fn"]),
            fix=fix,
        )
    ) from cause
