"""Sum the discrete latent sites of a model out of its log density."""

from __future__ import annotations

from collections.abc import Callable, Iterable
from typing import Any

from torch import Tensor

from ember.model.inspection import SiteTable
from ember.model.layout import Block
from ember.model.scoring import ScoreMessenger, counts, weigh
from ember.poutine.elimination import eliminate, total
from ember.poutine.enum_messenger import EnumMessenger
from ember.poutine.factors import Factor, Variable, factor_of, variable_of
from ember.poutine.runtime import Message
from ember.poutine.weight_messengers import InferConfigMessenger


class EnumerationPlan:
    """Which sites are summed out, and where their dims begin.

    :param table: of one execution of the model.
    :param names: the sites to sum out.
    """

    def __init__(self, table: SiteTable, names: Iterable[str]) -> None:
        self.names = frozenset(names)
        self.max_plate_nesting = _nesting(table)

    def enumerated(self, model: Callable[..., Any]) -> Callable[..., Any]:
        """Return the model with all values of the sites at once."""
        configured = InferConfigMessenger(self._configure)(model)
        wrapped: Callable[..., Any] = EnumMessenger(-1 - self.max_plate_nesting)(configured)
        return wrapped

    def _configure(self, site: Message) -> dict[str, Any]:
        return {"enumerate": "parallel", "num_samples": None} if site["name"] in self.names else {}


def _nesting(table: SiteTable) -> int:
    """Return the number of batch dims in use, declared by plates or not."""
    used = [0]
    for site in table.trace.nodes.values():
        if site["type"] == "sample":
            used.append(site["log_prob"].ndim if "log_prob" in site else 0)
            used.extend(-frame.dim for frame in site["cond_indep_stack"] if frame.dim is not None)
    return max(used)


class EnumeratedScoreMessenger(ScoreMessenger):
    """Collect what depends on enumerated sites as factors, and sum those sites out in the total."""

    def __init__(
        self, blocks: dict[str, Block], unconstrained: dict[str, Tensor], fixed: dict[str, Tensor]
    ) -> None:
        super().__init__(blocks, unconstrained, fixed)
        self.factors: list[Factor] = []
        self.variables: dict[int, Variable] = {}

    def _postprocess_message(self, msg: Message) -> None:
        if msg["type"] != "sample":
            super()._postprocess_message(msg)
            return
        variable = variable_of(msg) if "_dim_to_id" in msg["infer"] else None
        if variable is None and not counts(msg):
            return
        log_prob = msg["fn"].log_prob(msg["value"], *msg["args"], **msg["kwargs"])
        if variable is not None:
            self.variables[variable.id] = variable
        if variable is None and not _has_enumerated_dims(msg, log_prob):
            self.terms.append(weigh(msg, log_prob, str(msg["name"]) in self.blocks))
        else:
            self.factors.append(factor_of(msg, log_prob, masked=variable is None))

    def total(self) -> Tensor:
        """Return the log density with the enumerated sites summed out, a scalar."""
        left, _ = eliminate(self.factors, self.variables)
        result: Tensor = super().total() + total(left)
        return result


def _has_enumerated_dims(msg: Message, log_prob: Tensor) -> bool:
    dims = msg["infer"].get("_dim_to_id", ())
    return any(-dim <= log_prob.ndim and log_prob.shape[dim] > 1 for dim in dims)
