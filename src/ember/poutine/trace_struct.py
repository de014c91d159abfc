"""Record an execution as an ordered graph of sites, and compute its log probability."""

from __future__ import annotations

import warnings
from collections.abc import Callable, Iterator
from typing import Any

import torch

from ember import settings
from ember.distributions.scaling import scale_and_mask
from ember.errors import message
from ember.poutine.runtime import Message
from ember.poutine.shape_table import format_shapes

SiteFilter = Callable[[str, Message], bool]


def allow_all_sites(name: str, site: Message) -> bool:
    """Filter that lets every site pass."""
    return True


class Trace:
    """Sites of one execution in order, with edges of conditional dependence if recorded ``dense``.

    ``nodes`` maps names to site records. ``_INPUT`` and ``_RETURN`` are there if a function was called.
    """

    def __init__(self, graph_type: str = "flat") -> None:
        if graph_type not in ("flat", "dense"):
            raise ValueError(f"graph_type must be 'flat' or 'dense', got {graph_type!r}")
        self.graph_type = graph_type
        self.nodes: dict[str, Any] = {}
        self.locations: dict[str, str] = {}  # where sites stand in the user's source, if known
        self._successors: dict[str, dict[str, None]] = {}
        self._predecessors: dict[str, dict[str, None]] = {}

    def __contains__(self, name: object) -> bool:
        return name in self.nodes

    def __iter__(self) -> Iterator[str]:
        return iter(self.nodes)

    def __len__(self) -> int:
        return len(self.nodes)

    # -- graph ---------------------------------------------------------------------------------------------

    def add_node(self, site_name: str, **kwargs: Any) -> None:
        """Add a site record.

        :raises RuntimeError: if a latent or observed site of this name is there, or a site of another type.
        """
        known = self.nodes.get(site_name)
        if known is not None and kwargs["type"] != "param":
            self._refuse_duplicate(site_name, known, kwargs)
        self.nodes[site_name] = kwargs

    def _refuse_duplicate(self, name: str, known: Any, new: Any) -> None:
        first = self.locations.get(name)
        if known["type"] != new["type"]:
            raise RuntimeError(
                message(
                    f"{name} is already in the trace as a {known['type']}",
                    site=name,
                    expected="one kind of site for each name",
                    actual=f"a {known['type']}{f' ({first})' if first else ''}, then a {new['type']}",
                    fix="rename one of them",
                )
            )
        raise RuntimeError(
            message(
                f"Multiple sample sites named '{name}'",
                site=name,
                expected="a different name for each sample site of one execution",
                actual=f"a first site{f' at {first}' if first else ''}, and a second one here",
                fix="rename one of them; in a loop, make the name depend on the index, e.g. f'x_{i}'",
            )
        )

    def add_edge(self, source: str, target: str) -> None:
        """Record that ``target`` may depend on ``source``."""
        self._successors.setdefault(source, {})[target] = None
        self._predecessors.setdefault(target, {})[source] = None

    def remove_node(self, site_name: str) -> None:
        """Remove a site and its edges."""
        self.nodes.pop(site_name)
        for target in self._successors.pop(site_name, {}):
            self._predecessors[target].pop(site_name, None)
        for source in self._predecessors.pop(site_name, {}):
            self._successors[source].pop(site_name, None)

    def successors(self, site_name: str) -> Iterator[str]:
        """Iterate over the sites that may depend on this one."""
        return iter(self._successors.get(site_name, {}))

    def predecessors(self, site_name: str) -> Iterator[str]:
        """Iterate over the sites that this one may depend on."""
        return iter(self._predecessors.get(site_name, {}))

    @property
    def edges(self) -> list[tuple[str, str]]:
        """All (source, target) pairs."""
        return [(source, target) for source, targets in self._successors.items() for target in targets]

    def topological_sort(self, reverse: bool = False) -> list[str]:
        """List the sites so that sources come before targets (after them if ``reverse``).

        Sites are recorded in execution order, which is a topological one.
        """
        names = list(self.nodes)
        return names[::-1] if reverse else names

    def copy(self) -> Trace:
        """Return a copy with its own site records, which share their values."""
        new = Trace(self.graph_type)
        new.nodes = {name: site.copy() for name, site in self.nodes.items()}
        new.locations = dict(self.locations)
        new._successors = {name: dict(targets) for name, targets in self._successors.items()}
        new._predecessors = {name: dict(sources) for name, sources in self._predecessors.items()}
        return new

    def detach_(self) -> None:
        """Detach the values of all sample sites from autograd."""
        for site in self.nodes.values():
            if site["type"] == "sample":
                site["value"] = site["value"].detach()

    # -- log probability -----------------------------------------------------------------------------------

    def log_prob_sum(self, site_filter: SiteFilter = allow_all_sites) -> Any:
        """Return the sum of the log probabilities of the sample sites, scaled and masked: a scalar tensor."""
        result: Any = 0.0
        for name, site in self.nodes.items():
            if site["type"] == "sample" and site_filter(name, site):
                if "log_prob_sum" not in site:
                    self._score_site(name, site)
                result = result + site["log_prob_sum"]
        return result

    def compute_log_prob(self, site_filter: SiteFilter = allow_all_sites) -> None:
        """Set ``unscaled_log_prob``, ``log_prob`` and ``log_prob_sum`` of the sample sites."""
        for name, site in self.nodes.items():
            if site["type"] == "sample" and "log_prob" not in site and site_filter(name, site):
                self._score_site(name, site)

    def compute_score_parts(self) -> None:
        """Set ``score_parts`` besides the log probabilities, for gradient estimators."""
        for name, site in self.nodes.items():
            if site["type"] == "sample" and "score_parts" not in site:
                parts = _call_density(name, site, "score_parts")
                site["unscaled_log_prob"] = parts.log_prob
                site["score_parts"] = parts.scale_and_mask(site["scale"], site["mask"])
                self._store_log_prob(name, site, site["score_parts"].log_prob)

    def _score_site(self, name: str, site: Any) -> None:
        log_prob = _call_density(name, site, "log_prob")
        site["unscaled_log_prob"] = log_prob
        self._store_log_prob(name, site, scale_and_mask(log_prob, site["scale"], site["mask"]))

    def _store_log_prob(self, name: str, site: Any, log_prob: Any) -> None:
        site["log_prob"] = log_prob
        total = log_prob.sum() if log_prob.ndim else log_prob
        site["log_prob_sum"] = total
        if settings.read("validate_poutine"):
            warn_if_not_finite(total, f"log_prob_sum at site '{name}'", lambda: _describe_site(site))

    def pack_tensors(self, plate_to_symbol: dict[str, str] | None = None) -> None:
        """Refuse: packing belongs to enumeration."""
        raise ValueError("Trace.pack_tensors needs enumeration, which this version of ember does not have")

    # -- kinds of sites ------------------------------------------------------------------------------------

    @property
    def param_nodes(self) -> list[str]:
        """Names of the param sites."""
        return [name for name, site in self.nodes.items() if site["type"] == "param"]

    @property
    def stochastic_nodes(self) -> list[str]:
        """Names of the sample sites that are not observed."""
        return self._sample_nodes(lambda site: not site["is_observed"])

    @property
    def observation_nodes(self) -> list[str]:
        """Names of the observed sample sites, factors and deterministics included."""
        return self._sample_nodes(lambda site: site["is_observed"])

    @property
    def reparameterized_nodes(self) -> list[str]:
        """Names of the latent sites whose draws are differentiable."""
        return self._sample_nodes(
            lambda site: not site["is_observed"] and getattr(site["fn"], "has_rsample", False)
        )

    @property
    def nonreparam_stochastic_nodes(self) -> list[str]:
        """Names of the latent sites whose draws are not differentiable."""
        return self._sample_nodes(
            lambda site: not site["is_observed"] and not getattr(site["fn"], "has_rsample", False)
        )

    def _sample_nodes(self, keep: Callable[[Any], bool]) -> list[str]:
        return [name for name, site in self.nodes.items() if site["type"] == "sample" and keep(site)]

    def iter_stochastic_nodes(self) -> Iterator[tuple[str, Any]]:
        """Iterate over (name, record) of the sample sites that are not observed."""
        for name in self.stochastic_nodes:
            yield name, self.nodes[name]

    def format_shapes(self, title: str = "Trace Shapes:", last_site: str | None = None) -> str:
        """Return a table of the shapes of all sites, up to and including ``last_site``."""
        return format_shapes(self.nodes, title, last_site)


def warn_if_not_finite(value: Any, what: str, details: Callable[[], str] | None = None) -> None:
    """Warn about NaN or +inf in ``value`` and, later, NaN in its gradient; −inf is a legal log probability."""
    if not isinstance(value, torch.Tensor):
        return
    if value.requires_grad:
        value.register_hook(lambda grad: _warn_if_nan_gradient(grad, what))
    # One test for both: NaN and +inf are what is not below +inf.
    if not bool((value < torch.inf).all()):
        kind = "NaN" if bool(torch.isnan(value).any()) else "+inf"
        warnings.warn(
            message(
                f"Encountered {kind}: {what}",
                actual=details() if details else None,
                fix="check the parameters and values at this site",
            ),
            stacklevel=2,
        )


def _warn_if_nan_gradient(grad: torch.Tensor, what: str) -> None:
    if bool(torch.isnan(grad).any()):
        warnings.warn(message(f"Encountered NaN: gradient of {what}"), stacklevel=2)


def _describe_site(site: Any) -> str:
    return f"value {_excerpt(site['value'])} under {site['fn']}"


def _excerpt(value: Any) -> str:
    text = str(value.detach() if isinstance(value, torch.Tensor) else value)
    return text if len(text) <= 200 else text[:200] + " …"


def _call_density(name: str, site: Any, method: str) -> Any:
    """Call ``log_prob`` or ``score_parts`` of the site's distribution; errors get the site's name."""
    try:
        return getattr(site["fn"], method)(site["value"], *site["args"], **site["kwargs"])
    except (ValueError, RuntimeError) as error:
        raise _named(error, name, site) from error


def _named(error: Exception, name: str, site: Any) -> Exception:
    batch_shape = tuple(getattr(site["fn"], "batch_shape", ()))
    event_shape = tuple(getattr(site["fn"], "event_shape", ()))
    text = message(
        f"Error while computing log_prob at site '{name}': {error}",
        site=name,
        plates=site["cond_indep_stack"],
        expected=f"a value broadcastable to batch_shape {batch_shape} + event_shape {event_shape}"
        " in the support of the distribution",
        actual=f"a value of shape {tuple(getattr(site['value'], 'shape', ()))}",
    )
    kind = ValueError if isinstance(error, ValueError) else RuntimeError
    return kind(text)
