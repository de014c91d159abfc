"""Record an execution as an ordered graph of sites, and compute its log probability."""

from __future__ import annotations

import copy
from collections.abc import Callable, Iterator
from typing import Any

import torch

from ember import settings
from ember.distributions.shapes import sum_scalars
from ember.errors import describe_place, message
from ember.poutine.elimination.packing import pack_site, symbolize
from ember.poutine.runtime import Message
from ember.poutine.shape_table import format_shapes
from ember.poutine.site_density import call_density, score_site, store_log_prob, weighed

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
        self._places: dict[str, tuple[str, int, str]] = {}  # file, line and function of sites, if known
        self._successors: dict[str, dict[str, None]] = {}
        self._predecessors: dict[str, dict[str, None]] = {}
        self.like_sites: Any = None  # a `LikeSites`, where inference scores like sites together

    def __contains__(self, name: object) -> bool:
        return name in self.nodes

    def __iter__(self) -> Iterator[str]:
        return iter(self.nodes)

    def __len__(self) -> int:
        return len(self.nodes)

    @property
    def locations(self) -> dict[str, str]:
        """Where the sites stand in the user's source (``file:line in function``); known under validation."""
        return {name: describe_place(place) for name, place in self._places.items()}

    def location(self, name: str) -> str | None:
        """Return where one site stands in the user's source, if known."""
        place = self._places.get(name)
        return None if place is None else describe_place(place)

    # -- graph ---------------------------------------------------------------------------------------------

    def add_node(self, site_name: str, **kwargs: Any) -> None:
        """Add a site record.

        :raises RuntimeError: if a site of this name is there, unless both are params.
        """
        self.add_record(site_name, kwargs)

    def add_record(self, name: str, site: Any, place: tuple[str, int, str] | None = None) -> None:
        """Add a site record as it is, without copying it.

        :param place: file, line and function of the statement.
        :raises RuntimeError: if a site of this name is there, unless both are params.
        """
        known = self.nodes.get(name)
        if known is not None and not known["type"] == site["type"] == "param":
            self._refuse_duplicate(name, known, site)
        self.nodes[name] = site
        if place is not None:
            self._places.setdefault(name, place)

    def _refuse_duplicate(self, name: str, known: Any, new: Any) -> None:
        first = describe_place(self._places[name]) if name in self._places else None
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
        fix = "rename one of them; in a loop, make the name depend on the index, e.g. f'x_{i}'"
        if type(known["fn"]).__name__ == type(new["fn"]).__name__ == "_Subsample":
            fix = (
                f"make the plate '{name}' once, and enter that object each time; or rename one of the plates"
            )
        raise RuntimeError(
            message(
                f"Multiple sample sites named '{name}'",
                site=name,
                expected="a different name for each sample site and plate of one execution",
                actual=f"a first site{f' at {first}' if first else ''}, and a second one here",
                fix=fix,
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
        new._places = dict(self._places)
        new._successors = {name: dict(targets) for name, targets in self._successors.items()}
        new._predecessors = {name: dict(sources) for name, sources in self._predecessors.items()}
        return new

    def __getstate__(self) -> dict[str, Any]:
        """Leave the autograd graph behind: values are detached, so that a trace pickles and deep-copies."""
        state = {**self.__dict__, "like_sites": None}
        state["nodes"] = {
            name: {
                key: each.detach() if isinstance(each, torch.Tensor) else each for key, each in site.items()
            }
            for name, site in self.nodes.items()
        }
        return state

    def __deepcopy__(self, memo: dict[int, Any]) -> Trace:
        """Copy records and values; distributions, which nobody changes, are shared."""
        memo.update({id(site["fn"]): site["fn"] for site in self.nodes.values() if "fn" in site})
        new = Trace(self.graph_type)
        new.__dict__.update(copy.deepcopy(self.__getstate__(), memo))
        return new

    def detach_(self) -> None:
        """Detach the values of all sample sites from autograd."""
        for site in self.nodes.values():
            if site["type"] == "sample":
                site["value"] = site["value"].detach()

    # -- log probability -----------------------------------------------------------------------------------

    def log_prob_sum(self, site_filter: SiteFilter = allow_all_sites) -> Any:
        """Return the sum of the log probabilities of the sample sites, scaled and masked: a scalar tensor.

        Without sample sites it is the number 0.
        """
        terms = []
        validate = settings.read("validate_poutine")
        for name, site in self.nodes.items():
            if site["type"] == "sample" and (site_filter is allow_all_sites or site_filter(name, site)):
                if "log_prob_sum" not in site:
                    score_site(name, site, validate)
                terms.append(site["log_prob_sum"])
        return sum_scalars(terms)

    def compute_log_prob(self, site_filter: SiteFilter = allow_all_sites) -> None:
        """Set ``unscaled_log_prob``, ``log_prob`` and ``log_prob_sum`` of the sample sites."""
        validate = settings.read("validate_poutine")
        for name, site in self.nodes.items():
            if site["type"] == "sample" and "log_prob" not in site and site_filter(name, site):
                score_site(name, site, validate)

    def compute_score_parts(self) -> None:
        """Set ``score_parts`` besides the log probabilities, for gradient estimators."""
        validate = settings.read("validate_poutine")
        for name, site in self.nodes.items():
            if site["type"] == "sample" and "score_parts" not in site:
                parts = call_density(name, site, "score_parts")
                site["unscaled_log_prob"] = parts.log_prob
                site["score_parts"] = weighed(name, site, parts.scale_and_mask)
                store_log_prob(name, site, site["score_parts"].log_prob, validate)

    def symbolize_dims(self, plate_to_symbol: dict[str, str] | None = None) -> None:
        """Set ``infer["_dim_to_symbol"]`` of the sample sites: symbols for plates and enumerated sites."""
        symbolize(self.nodes, plate_to_symbol)

    def pack_tensors(self, plate_to_symbol: dict[str, str] | None = None) -> None:
        """Set ``packed`` of the sample sites: log probabilities without dims of size 1, others symbolized.

        :raises ValueError: naming the site, for a dim that is neither a plate's nor an enumerated site's.
        """
        self.symbolize_dims(plate_to_symbol)
        for site in self.nodes.values():
            if site["type"] == "sample":
                pack_site(site)

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


def _without_graph(value: Any) -> Any:
    return value.detach() if isinstance(value, torch.Tensor) else value
