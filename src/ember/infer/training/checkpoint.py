"""Write all that a run needs to go on to one file, and take it over from there."""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

import numpy as np
import torch
from torch import Tensor

from ember import state_file
from ember.errors import message
from ember.infer.objectives.baseline import Baselines
from ember.params import get_param_store
from ember.params.constraint_text import from_text, to_text
from ember.random_state import get_rng_state

if TYPE_CHECKING:
    from ember.infer.svi import SVI

_FORMAT = "ember-svi-1"
_WHAT = "a training run"


@dataclass
class Checkpoint:
    """A run at the end of a step.

    Each process of a data-parallel run has a state of its own: its ``rank``, the ``generators`` as
    random_state gives them, running averages of ``baselines``, the place in its ``batches``, and what its
    ``steps`` keep. The rest is common to all.
    """

    params: dict[str, Tensor]  # unconstrained
    constraints: dict[str, Any]  # as constraint_text describes them
    optimizer: dict[str, Any]
    losses: Tensor
    seconds: float
    own: list[dict[str, Any]]  # by rank

    @classmethod
    def of(cls, svi: SVI, **place: Any) -> Checkpoint:
        """Take down the parameters and the optimiser of an SVI.

        :param place: the other fields.
        :raises ValueError: naming the parameter whose constraint or optimiser state no file can hold.
        """
        state = get_param_store().get_state()
        return cls(
            params=dict(state["params"]),
            constraints={name: to_text(each, name) for name, each in state["constraints"].items()},
            optimizer=svi.optim.get_state(),  # type: ignore[attr-defined]  # checked by require_states
            **place,
        )

    def save(self, path: Any) -> None:
        """Write the file; an old one stays until all is written."""
        own = [{**each, "generators": _pack(each["generators"])} for each in self.own]
        state_file.save(path, {**vars(self), "own": own}, _FORMAT, _WHAT)

    @classmethod
    def load(cls, path: Any) -> Checkpoint:
        """Read a file of :meth:`save`.

        :raises FileFormatError: for a truncated or foreign file.
        """
        state = state_file.load(path, _FORMAT, _WHAT)
        own = [{**each, "generators": _unpack(each["generators"])} for each in state["own"]]
        return cls(**{**state, "own": own})

    def of_rank(self, rank: int) -> dict[str, Any]:
        """Return a process's own state, that of the first for one that was not there."""
        return self.own[rank if rank < len(self.own) else 0]

    def restore(self, svi: SVI, own: dict[str, Any]) -> None:
        """Put parameters, the optimiser's state and baselines back; generators stay as they are.

        Parameters that exist already keep their leaves, which modules may share.

        :param own: the process's own state.
        :raises ValueError: naming the parameter, if one has another shape or constraint than in the file.
        """
        store = get_param_store()
        for name in self.params:
            leaf = store.leaf(name)
            if leaf is not None:
                self._compare(name, leaf, to_text(store.get_state()["constraints"][name], name))
        for name, value in self.params.items():
            leaf = store.leaf(name)
            if leaf is None:
                constraint = from_text(self.constraints[name])
                store.set_state({"params": {name: value}, "constraints": {name: constraint}})
            else:
                leaf.data.copy_(value)
        svi.optim.set_state(self.optimizer)  # type: ignore[attr-defined]
        found = _baselines(svi)
        if found is not None:
            found.set_state(own["baselines"])

    def _compare(self, name: str, leaf: Tensor, constraint: Any) -> None:
        saved = self.params[name]
        if leaf.shape == saved.shape and leaf.dtype == saved.dtype and constraint == self.constraints[name]:
            return
        raise ValueError(
            message(
                f"the checkpoint's parameter '{name}' is not the program's",
                site=name,
                expected=f"{leaf.dtype} of shape {tuple(leaf.shape)} under {constraint}",
                actual=f"{saved.dtype} of shape {tuple(saved.shape)} under {self.constraints[name]}",
                fix="resume with the program and data sizes that wrote the checkpoint, or begin anew",
            )
        )


def own_state(svi: SVI) -> dict[str, Any]:
    """Return the state of this process's generators and baselines."""
    found = _baselines(svi)
    return {"generators": get_rng_state(), "baselines": {} if found is None else found.state()}


def require_states(optim: Any) -> None:
    """Raise TypeError for an optimiser whose state cannot be read."""
    if not (hasattr(optim, "get_state") and hasattr(optim, "set_state")):
        raise TypeError(
            message(
                "checkpoints need an optimiser with get_state and set_state",
                expected="an optimiser of ember.optim",
                actual=repr(optim),
            )
        )


def _baselines(svi: SVI) -> Baselines | None:
    objective = getattr(svi.loss, "__self__", None)
    found = getattr(objective, "baselines", None)
    return found if isinstance(found, Baselines) else None


def _pack(state: dict[str, Any]) -> dict[str, Any]:
    kind, words, *rest = state["numpy"]
    return {**state, "numpy": [kind, torch.from_numpy(words.astype(np.int64)), *rest]}


def _unpack(state: dict[str, Any]) -> dict[str, Any]:
    kind, words, *rest = state["numpy"]
    return {**state, "numpy": (kind, words.numpy().astype(np.uint32), *rest)}
