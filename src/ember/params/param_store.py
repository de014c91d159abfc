"""Keep named parameters: unconstrained leaves, read and written through their constraints."""

from __future__ import annotations

import re
from collections.abc import Callable, ItemsView, Iterator, KeysView
from contextlib import contextmanager
from typing import Any, TypedDict

import torch
from torch.distributions.constraints import Constraint

from ember.distributions import constraints
from ember.distributions.constraints import transform_to
from ember.errors import MissingParameterError, message
from ember.params import files
from ember.params.leaf_reference import LeafReference
from ember.params.value_checks import check_loaded, check_value


class StoreState(TypedDict):
    """All that a store holds, as ``get_state`` gives it."""

    params: dict[str, torch.Tensor]  # unconstrained values by name
    constraints: dict[str, Constraint]


class ParamStoreDict:
    """A mapping from names to constrained parameter values.

    Each parameter is an unconstrained leaf tensor together with a constraint. Reading gives the constrained
    value, connected to the leaf by autograd; its ``unconstrained()`` returns the leaf (or None once the store
    has dropped it).

    >>> import ember, torch
    >>> store = ParamStoreDict()
    >>> value = store.setdefault("scale", torch.tensor(2.0), constraints.positive)
    >>> store["scale"].unconstrained().requires_grad
    True
    """

    def __init__(self) -> None:
        self._params: dict[str, torch.Tensor] = {}
        self._param_to_name: dict[torch.Tensor, str] = {}
        self._constraints: dict[str, Constraint] = {}
        self._loaded: set[str] = set()  # parameters that no statement has looked at since they were loaded

    # -- mapping -------------------------------------------------------------------------------------------

    def clear(self) -> None:
        """Remove all parameters."""
        self._params = {}
        self._param_to_name = {}
        self._constraints = {}

    def items(self) -> Iterator[tuple[str, torch.Tensor]]:
        """Iterate over (name, constrained value)."""
        return ((name, self[name]) for name in list(self._params))

    def keys(self) -> KeysView[str]:
        """Names of the parameters."""
        return self._params.keys()

    def values(self) -> Iterator[torch.Tensor]:
        """Iterate over constrained values."""
        return (self[name] for name in list(self._params))

    def __bool__(self) -> bool:
        return bool(self._params)

    def __len__(self) -> int:
        return len(self._params)

    def __contains__(self, name: object) -> bool:
        return name in self._params

    def __iter__(self) -> Iterator[str]:
        return iter(self.keys())

    def __getitem__(self, name: str) -> torch.Tensor:
        leaf = self._params[name]
        constraint = self._constraints[name]
        value: Any = leaf if constraint is constraints.real else transform_to(constraint)(leaf)
        value.unconstrained = LeafReference(leaf)
        return value

    def __setitem__(self, name: str, value: torch.Tensor) -> None:
        """Set a constrained value; a known name keeps its constraint, a new one gets ``real``.

        The parameter gets a new leaf, so that optimisers that keep state by tensor begin anew.

        :raises ValueError: if the value violates the constraint.
        """
        self._store(name, value, self._constraints.get(name, constraints.real))

    def __delitem__(self, name: str) -> None:
        leaf = self._params.pop(name)
        self._param_to_name.pop(leaf, None)
        self._constraints.pop(name)

    def setdefault(
        self,
        name: str,
        init_constrained_value: torch.Tensor | Callable[[], torch.Tensor],
        constraint: Constraint = constraints.real,
    ) -> torch.Tensor:
        """Return the parameter's value, after making it from the initial value and constraint if it is new.

        :param init_constrained_value: a tensor, or a callable that is called only for a new name.
        :raises ValueError: if the initial value violates the constraint.
        """
        if name not in self._params:
            if callable(init_constrained_value) and not isinstance(init_constrained_value, torch.Tensor):
                init_constrained_value = init_constrained_value()
            self._store(name, init_constrained_value, constraint)
        return self[name]

    def _store(self, name: str, value: Any, constraint: Constraint) -> None:
        if not isinstance(value, torch.Tensor):
            raise TypeError(
                message(
                    f"parameter '{name}' must be a tensor",
                    site=name,
                    expected="a torch.Tensor",
                    actual=type(value).__name__,
                    fix="wrap it in torch.tensor(...)",
                )
            )
        if constraint is constraints.real:
            # The user's own tensor becomes the leaf: modules rely on sharing it.
            leaf = value.detach() if value.grad_fn is not None else value
        else:
            with torch.no_grad():
                check_value(name, value, constraint)
                leaf = transform_to(constraint).inv(value).detach()
        if not leaf.is_contiguous():
            leaf = leaf.detach().contiguous()
        if not leaf.dtype.is_floating_point and not leaf.dtype.is_complex:
            raise TypeError(
                message(
                    f"parameter '{name}' must have a floating point dtype to be learned",
                    site=name,
                    expected="a floating point tensor",
                    actual=str(leaf.dtype),
                    fix="convert the initial value by .float()",
                )
            )
        self._set_leaf(name, leaf, constraint)

    def _set_leaf(self, name: str, leaf: torch.Tensor, constraint: Constraint) -> None:
        leaf.requires_grad_(True)
        self._loaded.discard(name)
        if name in self._params:
            self._param_to_name.pop(self._params[name], None)
        self._params[name] = leaf
        self._constraints[name] = constraint
        self._param_to_name[leaf] = name

    # -- parameters ----------------------------------------------------------------------------------------

    def named_parameters(self) -> ItemsView[str, torch.Tensor]:
        """Pairs of (name, unconstrained leaf)."""
        return self._params.items()

    def get_all_param_names(self) -> KeysView[str]:
        """Names of the parameters."""
        return self.keys()

    def get_param(
        self,
        name: str,
        init_tensor: torch.Tensor | Callable[[], torch.Tensor] | None = None,
        constraint: Constraint = constraints.real,
        event_dim: int | None = None,
    ) -> torch.Tensor:
        """Return a parameter's constrained value; make it first if it is new and ``init_tensor`` is given.

        :param event_dim: not used here; plates read it.
        :raises MissingParameterError: (a KeyError) if the name is unknown and there is no initial value.
        :raises ValueError: if the initial value, or one that was loaded, violates the constraint.
        """
        if name in self._params:
            if name in self._loaded:
                check_loaded(name, self._params[name], self._constraints[name], constraint)
                self._loaded.discard(name)
            return self[name]
        if init_tensor is None:
            known = ", ".join(map(repr, self._params)) or "none"
            raise MissingParameterError(
                message(
                    f"parameter '{name}' has no value",
                    site=name,
                    expected="an initial value, or a stored one",
                    actual=f"no init_tensor; stored parameters: {known}",
                    fix=f"param('{name}', torch.tensor(...)), or load the store first",
                )
            )
        return self.setdefault(name, init_tensor, constraint)

    def match(self, name: str) -> dict[str, torch.Tensor]:
        """Return the constrained values whose names match a regular expression from their start on."""
        pattern = re.compile(name)
        return {each: self[each] for each in self if pattern.match(each)}

    def param_name(self, p: torch.Tensor) -> str | None:
        """Return the name of an unconstrained leaf, or None."""
        return self._param_to_name.get(p)

    def replace_param(self, param_name: str, new_param: torch.Tensor, old_param: torch.Tensor) -> None:
        """Set a parameter to a new constrained value, provided its leaf is still ``old_param``.

        :raises ValueError: if it is not.
        """
        if self._params.get(param_name) is not old_param.unconstrained():  # type: ignore[attr-defined]
            raise ValueError(f"parameter '{param_name}' is not the one to be replaced: it has changed since")
        self[param_name] = new_param

    def leaf(self, name: str) -> torch.Tensor | None:
        """Return a parameter's unconstrained leaf, or None if the name is unknown."""
        return self._params.get(name)

    def adopt(self, name: str, leaf: torch.Tensor, constraint: Constraint) -> None:
        """Make ``leaf`` itself, an unconstrained tensor that a module keeps, the parameter of this name."""
        self._set_leaf(name, leaf, constraint)

    def discard(self, name: str) -> None:
        """Remove a parameter if it is there."""
        if name in self._params:
            del self[name]

    # -- states --------------------------------------------------------------------------------------------

    def get_state(self) -> StoreState:
        """Return the unconstrained values and constraints."""
        return {"params": dict(self._params), "constraints": dict(self._constraints)}

    def set_state(self, state: StoreState) -> None:
        """Take in the parameters of a state; others stay.

        :raises ValueError: for other keys than ``params`` and ``constraints``, or names without counterpart.
        """
        if not isinstance(state, dict) or set(state) != {"params", "constraints"}:
            keys = sorted(state) if isinstance(state, dict) else type(state).__name__
            raise ValueError(
                f"malformed state of a parameter store: expected keys params and constraints, got {keys}"
            )
        if set(state["params"]) != set(state["constraints"]):
            different = sorted(set(state["params"]) ^ set(state["constraints"]))
            raise ValueError(f"malformed state of a parameter store: names without counterpart: {different}")
        for name, leaf in state["params"].items():
            self._set_leaf(name, leaf if leaf.is_leaf else leaf.detach(), state["constraints"][name])
        self._loaded.update(state["params"])

    def save(self, filename: Any) -> None:
        """Write all parameters to a safetensors file, atomically.

        :raises ValueError: naming the parameter, for a constraint that cannot be described in a file.
        """
        files.save(filename, self._params, self._constraints)

    def load(self, filename: Any, map_location: Any = None) -> None:
        """Read parameters from a file of :meth:`save`, or an old torch file; others in the store stay.

        :param map_location: device to put the parameters on.
        :raises FileFormatError: (a ValueError) for truncated or foreign files; the store stays as it was.
        """
        params, read_constraints = files.load(filename, map_location)
        self.set_state({"params": params, "constraints": read_constraints})

    @contextmanager
    def scope(self, state: StoreState | None = None) -> Iterator[StoreState]:
        """Use other contents inside a ``with`` block: empty ones, or those of ``state``.

        :returns: the state, which is filled on exit and can be given to a later ``scope``.
        """
        if state is None:
            state = {"params": {}, "constraints": {}}
        former = self._params, self._param_to_name, self._constraints
        self.clear()
        try:
            self.set_state(state)
            yield state
            state.update(self.get_state())
        finally:
            self._params, self._param_to_name, self._constraints = former
