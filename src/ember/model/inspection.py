"""Run a model once, eagerly and validated, and tabulate its sites."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from dataclasses import dataclass
from typing import Any, Literal

import torch
from torch.distributions import biject_to

from ember import settings
from ember.errors import message
from ember.model.initialisation import InitMessenger, InitStrategy, init_to_uniform
from ember.poutine import trace as trace_handler
from ember.poutine.runtime import CondIndepStackFrame
from ember.poutine.trace_struct import Trace

Kind = Literal["latent", "observed", "deterministic", "factor", "subsample", "param"]


@dataclass(frozen=True, eq=False)
class Site:
    """One row of the site table."""

    name: str
    kind: Kind
    fn: Any  # the distribution, expanded by the plates; for params None
    value: Any
    support: Any  # constraint, or None where there is none
    plates: tuple[CondIndepStackFrame, ...]  # outermost first
    where: str | None  # file:line of the statement
    is_discrete: bool

    @property
    def shape(self) -> torch.Size:
        """Shape of the value."""
        return torch.Size(getattr(self.value, "shape", ()))

    @property
    def event_dim(self) -> int:
        """Number of rightmost dimensions that are not batch."""
        return int(getattr(self.fn, "event_dim", 0))

    @property
    def dims(self) -> list[str | None]:
        """A name for each dimension of the value: its plate's where it is one, else None."""
        names: list[str | None] = [None] * len(self.shape)
        for frame in self.plates:
            position = len(names) - self.event_dim + (frame.dim if frame.dim is not None else 0)
            if frame.dim is not None and position >= 0 and self.shape[position] == frame.size:
                names[position] = frame.name
        return names


class SiteTable(dict[str, Site]):
    """The sites of one execution by name, in the order of execution, with the trace they come from."""

    trace: Trace

    def of_kind(self, *kinds: Kind) -> list[Site]:
        """Return the sites of the given kinds, in order."""
        return [site for site in self.values() if site.kind in kinds]

    def __str__(self) -> str:
        rows = [("site", "kind", "distribution", "shape", "plates", "where")]
        for site in self.values():
            plates = ", ".join(frame.name for frame in site.plates)
            fn = "" if site.fn is None else type(site.fn).__name__
            rows.append((site.name, site.kind, fn, str(tuple(site.shape)), plates, site.where or ""))
        widths = [max(map(len, column)) for column in zip(*rows, strict=True)]
        return "\n".join(
            "  ".join(text.ljust(width) for text, width in zip(row, widths, strict=True)).rstrip()
            for row in rows
        )


def inspect_model(
    model: Callable[..., Any],
    args: tuple[Any, ...] = (),
    kwargs: dict[str, Any] | None = None,
    init_strategy: InitStrategy | None = None,
    seed: int | None = None,
    max_tries: int = 10,
) -> SiteTable:
    """Run ``model`` once and return its site table; observations are checked against shapes and supports.

    Continuous latent sites take values from ``init_strategy`` (site record → value), by default uniform on
    (−2, 2) in unconstrained space; discrete ones are drawn. Another starting point is tried if the model's
    numerics fail.

    :param seed: if given, the run draws from a generator of its own and torch's is left as it was.
    :raises ValueError: as validation does, with the site's name.
    """
    if seed is not None:
        with torch.random.fork_rng(devices=[]):
            torch.manual_seed(seed)
            return inspect_model(model, args, kwargs, init_strategy, None, max_tries)
    first: Exception | None = None
    for _ in range(max_tries):
        try:
            return _inspect_once(model, args, kwargs or {}, init_strategy or default_strategy)
        except (torch.linalg.LinAlgError, ValueError) as error:
            # A random start can hit a matrix that is not positive definite, or a parameter out of its domain.
            first = first or error
    raise first or RuntimeError(f"max_tries must be positive, got {max_tries}")


def _inspect_once(
    model: Callable[..., Any], args: tuple[Any, ...], kwargs: dict[str, Any], init_strategy: InitStrategy
) -> SiteTable:
    with torch.no_grad():
        recorded = trace_handler(InitMessenger(init_strategy)(model)).get_trace(*args, **kwargs)
        # The checks of values stay on, but a density that is not finite at a random start is no news yet.
        with settings.context(validate_poutine=False):
            recorded.compute_log_prob()
    table = SiteTable()
    table.trace = recorded
    places = recorded.locations
    for name, node in recorded.nodes.items():
        if node["type"] in ("sample", "param"):
            table[name] = _describe(name, node, places.get(name))
    return table


def _describe(name: str, node: Any, where: str | None) -> Site:
    is_param = node["type"] == "param"
    fn = None if is_param else node["fn"]
    support = None if is_param else support_of(fn)
    return Site(
        name=name,
        kind="param" if is_param else kind_of(node),
        fn=fn,
        value=node["value"],
        support=support,
        plates=tuple(node["cond_indep_stack"]),
        where=where,
        is_discrete=bool(support is not None and support.is_discrete),
    )


def kind_of(node: Any) -> Kind:
    """Say what kind of site a sample record is."""
    family = type(node["fn"]).__name__
    if family == "_Subsample":
        return "subsample"
    if node["infer"].get("_deterministic"):
        return "deterministic"
    if node["is_observed"]:
        return "factor" if family == "Unit" else "observed"
    return "latent"


def support_of(fn: Any) -> Any:
    """Return the support of a distribution, or None if it does not tell."""
    try:
        return getattr(fn, "support", None)
    except NotImplementedError:
        return None


def default_strategy(site: Any) -> Any:
    """Start uniformly on (−2, 2) in unconstrained space; discrete sites draw.

    :raises ValueError: if there is no bijection onto the site's support.
    """
    support = support_of(site["fn"])
    if support is None:
        return None
    if not support.is_discrete:
        bijection(support, str(site["name"]))
    return init_to_uniform(site)


def bijection(support: Any, name: str) -> Any:
    """Return the bijection from unconstrained space onto a support.

    :raises ValueError: if none is known, naming the site.
    """
    try:
        return biject_to(support)
    except NotImplementedError as error:
        raise ValueError(
            message(
                f"no bijection from unconstrained space onto the support of site '{name}' is known",
                site=name,
                expected="a support with a bijection registered in torch.distributions.biject_to",
                actual=repr(support),
                fix="register one by biject_to.register, or reparametrise the site",
            )
        ) from error


def iterate_tensors(constraint: Any) -> Iterator[Any]:
    """Yield the numbers and tensors that a constraint is made of."""
    if isinstance(constraint, (torch.Tensor, int, float, bool)):
        yield constraint
    elif isinstance(constraint, (list, tuple)):
        for each in constraint:
            yield from iterate_tensors(each)
    elif hasattr(constraint, "__dict__"):
        for each in vars(constraint).values():
            yield from iterate_tensors(each)
