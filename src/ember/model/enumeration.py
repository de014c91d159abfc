"""Sum the discrete latent sites of a model out of its log density."""

from __future__ import annotations

from collections.abc import Callable, Iterable
from typing import Any

from torch import Tensor

from ember.engine.control import active_recorder, capturing, cond, scan
from ember.engine.recording.origins import in_site
from ember.model.inspection import SiteTable
from ember.model.layout import Block
from ember.model.scoring import ScoreMessenger, counts, weigh
from ember.poutine.elimination.chain_sums import Loops
from ember.poutine.elimination.factors import Factor, variable_of
from ember.poutine.elimination.like_sites import LikeSites
from ember.poutine.elimination.provenance import Provenance
from ember.poutine.elimination.sum_product import eliminate, total
from ember.poutine.elimination.unexpanded import unexpanded
from ember.poutine.enum_messenger import EnumMessenger
from ember.poutine.runtime import Message
from ember.poutine.shape_table import shapes_in_errors
from ember.poutine.weight_messengers import InferConfigMessenger


def _step_cost() -> int:
    """Return how many additions take as long as a step of a loop without work."""
    return 400 if capturing() else 40_000


LOOPS = Loops(scan, cond, _step_cost)
"""The engine's control flow, for the elimination of long chains."""


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
        self.dependent: list[Message] = []
        # Under a capture only, where it makes small programs; eagerly it costs more than it saves.
        self.provenance = Provenance() if active_recorder.get() is not None else None
        self._sum: Any = 0.0

    def __enter__(self) -> Any:
        if self.provenance is not None:
            self.provenance.__enter__()
        return super().__enter__()

    def __exit__(self, *exception: Any) -> Any:
        result = super().__exit__(*exception)
        if self.provenance is not None:
            self.provenance.__exit__(*exception)
        return result

    def _postprocess_message(self, msg: Message) -> None:
        if msg["type"] != "sample":
            super()._postprocess_message(msg)
        elif msg["infer"].get("_enumerate_dim") is not None or (counts(msg) and _depends_on_enumerated(msg)):
            self.dependent.append(msg)
        elif counts(msg):
            self.terms.append(weigh(msg, _score(msg), str(msg["name"]) in self.blocks))

    def finish(self) -> None:
        """Sum the enumerated sites out."""
        super().finish()
        left, _ = self.eliminated(LOOPS)
        self._sum = total(left)

    def eliminated(self, loops: Loops | None = None) -> tuple[list[Factor], list[Any]]:
        """Sum the enumerated sites out; returns the factors that are left and the steps taken.

        :param loops: control flow for long chains, of which no steps are kept.
        """
        found = (variable_of(msg) for msg in self.dependent)
        variables = {variable.id: variable for variable in found if variable is not None}
        with shapes_in_errors({str(msg["name"]): msg for msg in self.dependent}):
            factors = LikeSites(self.dependent, self.provenance).factors(variables, _score)
            return eliminate(factors, variables, loops=loops)

    def total(self) -> Tensor:
        """Return the log density with the enumerated sites summed out, a scalar."""
        result: Tensor = super().total() + self._sum
        return result


def _score(msg: Message) -> Tensor:
    fn = unexpanded(msg)
    result: Tensor = in_site(
        str(msg["name"]), lambda: fn.log_prob(msg["value"], *msg["args"], **msg["kwargs"])
    )
    return result


def _depends_on_enumerated(msg: Message) -> bool:
    """Say whether a site's log probability varies along an enumerated dim."""
    dims = msg["infer"].get("_dim_to_id", ())
    if not dims:
        return False
    fn, value = msg["fn"], msg["value"]
    event_dim = len(getattr(fn, "event_shape", ()))
    shapes = [tuple(getattr(fn, "batch_shape", ())), tuple(value.shape[: value.ndim - event_dim])]
    mask = msg["mask"]
    if isinstance(mask, Tensor):
        shapes.append(tuple(mask.shape))
    return any(-dim <= len(shape) and shape[dim] > 1 for dim in dims for shape in shapes)
