"""Draw a model as a graph in DOT, the language of Graphviz: sites, what they depend on, and plates."""

from __future__ import annotations

import importlib
import importlib.util
from collections import Counter
from collections.abc import Callable, Iterable
from pathlib import Path
from typing import Any

from ember.errors import message
from ember.model.dependencies import SiteRelation, follow, innermost

_STYLES = {
    "latent": "shape=ellipse, style=filled, fillcolor=white",
    "observed": "shape=ellipse, style=filled, fillcolor=gray",
    "deterministic": "shape=ellipse, style=dashed",
    "param": "shape=plain",
}


class Picture:
    """A model as text in DOT, where the ``graphviz`` package is not installed.

    :ivar source: the text.
    """

    def __init__(self, source: str) -> None:
        self.source = source

    def __str__(self) -> str:
        return self.source

    def render(self, *args: Any, **kwargs: Any) -> None:
        """Refuse to make an image.

        :raises ImportError: always.
        """
        raise ImportError(
            message(
                "drawing an image of a model needs the packages graphviz (Python) and Graphviz (program dot)",
                fix="install them, or write the text: render_model(..., filename='model.dot')",
            )
        )


def render_model(
    model: Callable[..., Any],
    model_args: Any = None,
    model_kwargs: dict[str, Any] | None = None,
    filename: str | None = None,
    render_distributions: bool = False,
    render_params: bool = False,
    render_deterministic: bool = False,
) -> Any:
    """Draw a model: ellipses for sites (gray if observed), arrows for dependences, boxes for plates.

    :param model_args: positional arguments of the model, or a list of them for several pictures in one.
    :param model_kwargs: keyword arguments, or a list of them likewise.
    :param filename: where to write the picture; its suffix says how (``.dot`` and ``.gv``: as text).
    :param render_distributions: list the sites' distributions below.
    :param render_params: draw params too.
    :param render_deterministic: draw deterministic sites too, rather than look through them.
    :returns: a ``graphviz.Source`` if that package is installed, else a :class:`Picture` with the text.
    :raises ImportError: for an image file without the ``graphviz`` package.

    >>> import ember, torch
    >>> def coin():
    ...     p = ember.sample("p", ember.distributions.Beta(1.0, 1.0))
    ...     with ember.plate("throws", 3):
    ...         x = ember.sample("x", ember.distributions.Bernoulli(p), obs=torch.ones(3))
    >>> print(render_model(coin).source)
    digraph {
      "p" [label="p", shape=ellipse, style=filled, fillcolor=white]
      subgraph "cluster_/throws" {
        label="throws (3)"; labeljust=r; labelloc=b
        "x" [label="x", shape=ellipse, style=filled, fillcolor=gray]
      }
      "p" -> "x"
    }
    """
    several = isinstance(model_args, list) or isinstance(model_kwargs, list)
    all_args = model_args if isinstance(model_args, list) else [model_args]
    all_kwargs = model_kwargs if isinstance(model_kwargs, list) else [model_kwargs]
    count = max(len(all_args), len(all_kwargs))
    lines = []
    for position in range(count):
        args = all_args[position % len(all_args)] or ()
        kwargs = all_kwargs[position % len(all_kwargs)] or {}
        sites = follow(model, tuple(args), kwargs, render_deterministic)
        chosen = [each for each in sites.values() if render_params or each.kind != "param"]
        lines += _body(chosen, f"{position}/" if several else "", render_distributions)
    source = "digraph {\n" + "\n".join(lines) + "\n}\n"
    suffix = "" if filename is None else Path(filename).suffix
    if filename is not None and suffix in (".dot", ".gv"):
        Path(filename).write_text(source)
    if importlib.util.find_spec("graphviz") is None:
        picture = Picture(source)
        if filename is not None and suffix not in (".dot", ".gv"):
            picture.render()
        return picture
    graph = importlib.import_module("graphviz").Source(source)
    if filename is not None and suffix not in (".dot", ".gv"):
        graph.render(str(Path(filename).with_suffix("")), format=suffix[1:], cleanup=True)
    return graph


def _body(sites: list[SiteRelation], prefix: str, with_distributions: bool) -> list[str]:
    """Return the lines of one picture; names get a prefix, so that several fit in one graph."""
    shown = {each.name for each in sites}
    # Plates of many sites further out, so that few boxes are drawn twice where plates cross.
    uses = Counter(frame.name for each in sites for frame in each.plates)
    tree: dict[Any, Any] = {}
    for each in sites:
        frames = sorted(each.plates, key=lambda frame: (-uses[frame.name], frame.name))
        level = tree
        for frame in frames:
            level = level.setdefault(("plate", frame.name, frame.full_size), {})
        level[("site", each.name, each.kind)] = None
    lines = _boxes(tree, prefix, "  ", "")
    for each in sites:
        lines += [
            f"  {_quoted(prefix + parent)} -> {_quoted(prefix + each.name)}"
            for parent in each.parents
            if parent in shown
        ]
    if with_distributions:
        lines.append(f"  {_quoted(prefix + '~')} [shape=plaintext, label={_quoted(_legend(sites))}]")
    return lines


def _boxes(level: dict[Any, Any], prefix: str, indent: str, path: str) -> list[str]:
    lines = []
    for (what, name, detail), below in level.items():
        if what == "site":
            lines.append(f"{indent}{_quoted(prefix + name)} [label={_quoted(name)}, {_STYLES[detail]}]")
        else:
            label = name if detail is None else f"{name} ({int(detail)})"
            inner = f"{path}/{name}"
            lines.append(f"{indent}subgraph {_quoted('cluster_' + prefix + inner)} {{")
            lines.append(f"{indent}  label={_quoted(label)}; labeljust=r; labelloc=b")
            lines += [*_boxes(below, prefix, indent + "  ", inner), f"{indent}}}"]
    return lines


def _legend(sites: Iterable[SiteRelation]) -> str:
    """Return a line for each site: its distribution, or its constraint."""
    lines = []
    for each in sites:
        fn = innermost(each.fn)
        if each.kind == "param":
            lines.append(f"{each.name} ∈ {type(fn).__name__.lstrip('_')}")
        elif each.kind != "deterministic":
            lines.append(f"{each.name} ~ {type(fn).__name__}")
    return "\\l".join([*lines, ""])


def _quoted(text: str) -> str:
    return '"' + text.replace('"', "'") + '"'
