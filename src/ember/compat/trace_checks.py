"""Check and draw recorded traces, under the names that programs import from ``pyro.util``."""

from __future__ import annotations

import importlib
import importlib.util
import warnings
from typing import Any

from ember.errors import message
from ember.guides.checks import site_is_subsample
from ember.infer.objectives.downstream import DownstreamSum
from ember.model.picture import Picture
from ember.poutine import Trace


def check_traces_match(trace1: Trace, trace2: Trace) -> None:
    """Warn if two runs of a program have other sites, and refuse other shapes at a site.

    :raises ValueError: for log probabilities of other shapes.
    """
    first, second = (
        {name: site for name, site in trace.nodes.items() if site["type"] == "sample"}
        for trace in (trace1, trace2)
    )
    if set(first) != set(second):
        warnings.warn(
            message("Model vars changed between runs", expected=sorted(first), actual=sorted(second)),
            UserWarning,
            stacklevel=2,
        )
    for name in first.keys() & second.keys():
        sites = [each[name] for each in (first, second) if "log_prob" in each[name]]
        shapes = [tuple(site["log_prob"].shape) for site in sites]
        if len(set(shapes)) > 1:
            what = f"Site dims disagree at site '{name}'"
            raise ValueError(message(what, site=name, expected=shapes[0], actual=shapes[1]))


def check_traceenum_requirements(model_trace: Trace, guide_trace: Trace) -> None:
    """Warn of sites that come after enumerated sites of deeper plates, and so might depend on them."""
    for role, trace in (("model", model_trace), ("guide", guide_trace)):
        enumerated: dict[frozenset[str], list[str]] = {}
        for name, site in trace.nodes.items():
            if site["type"] != "sample" or site_is_subsample(site):
                continue
            plates = frozenset(frame.name for frame in site["cond_indep_stack"] if frame.vectorized)
            deeper = [each for context, names in enumerated.items() if plates < context for each in names]
            if deeper and not site["infer"].get("_deterministic"):
                listed = ", ".join(f"'{each}'" for each in deeper)
                warnings.warn(
                    message(
                        f"at {role} site '{name}', possibly invalid dependency",
                        site=name,
                        plates=site["cond_indep_stack"],
                        expected=f"site '{name}' to precede the enumerated sites {listed} of deeper plates",
                    ),
                    UserWarning,
                    stacklevel=2,
                )
            if site["infer"].get("enumerate") is not None:
                enumerated.setdefault(plates, []).append(name)


def save_visualization(trace: Trace, graph_output: str) -> None:
    """Save a picture of a dense trace as ``graph_output.pdf``. Deprecated: use ``render_model``.

    :raises ImportError: without the package ``graphviz``.
    """
    warnings.warn("save_visualization is deprecated, use render_model", FutureWarning, stacklevel=2)
    lines = [
        f'  "{name}" [style=filled, fillcolor={"gray" if site["is_observed"] else "white"}]'
        for name, site in trace.nodes.items()
        if site["type"] == "sample"
    ]
    lines += [f'  "{source}" -> "{target}"' for source, target in trace.edges]
    text = "digraph {\n" + "\n".join(lines) + "\n}\n"
    if importlib.util.find_spec("graphviz") is None:
        Picture(text).render()
    importlib.import_module("graphviz").Source(text).render(graph_output, format="pdf", cleanup=True)


class MultiFrameTensor(DownstreamSum):
    """A sum of batched terms, given as pairs of the plates and the term."""

    def __init__(self, *items: Any) -> None:
        super().__init__()
        self.add(*items)

    def add(self, *items: Any) -> None:
        """Add pairs of a ``cond_indep_stack`` and a tensor."""
        for plates, term in items:
            super().add(plates, term)
