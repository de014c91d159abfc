"""Draw posteriors into PNG files."""

from __future__ import annotations

import sys
import warnings
from collections.abc import Sequence
from pathlib import Path
from typing import Any

from ember.arviz_library import load_arviz


def plot_trace(idata: Any, path: str | Path, var_names: Sequence[str] | None = None) -> Path:
    """Plot the density of each variable beside its draws in order, a colour per chain.

    :param idata: ``arviz.InferenceData``, or anything with ``to_arviz()``.
    :param path: PNG file to write; its directory is made if need be.
    :param var_names: variables to show, by default all.
    :returns: the path.
    """
    return _draw("plot_trace", idata, path, var_names, compact=True)


def plot_forest(
    idata: Any, path: str | Path, var_names: Sequence[str] | None = None, hdi_prob: float = 0.9
) -> Path:
    """Plot medians with intervals of half and of ``hdi_prob`` of the mass, all chains together.

    The parameters are those of :func:`plot_trace`.
    """
    idata = as_inference_data(idata)
    names = list(idata.posterior.data_vars) if var_names is None else var_names
    rows = sum(idata.posterior[name][0, 0].size for name in names)
    options = {"figsize": (8, 1 + 0.15 * rows), "textsize": 7} if rows > 20 else {}
    return _draw("plot_forest", idata, path, var_names, combined=True, hdi_prob=hdi_prob, **options)


def as_inference_data(source: Any) -> Any:
    """Return ``source`` itself, or what its ``to_arviz()`` gives."""
    return source.to_arviz() if hasattr(source, "to_arviz") else source


def _draw(kind: str, source: Any, path: str | Path, var_names: Sequence[str] | None, **options: Any) -> Path:
    drawing()
    arviz = load_arviz()

    names = None if var_names is None else list(var_names)
    with warnings.catch_warnings():
        # ArviZ's calls into matplotlib are not the reader's to mend.
        warnings.simplefilter("ignore", DeprecationWarning)
        axes = getattr(arviz, kind)(as_inference_data(source), var_names=names, **options)
        return write(axes.ravel()[0].figure, path)


def drawing() -> Any:
    """Import and return ``matplotlib.pyplot``, drawing into memory."""
    if "matplotlib.pyplot" not in sys.modules:
        import matplotlib

        # Nothing is shown on a screen; in a session that has chosen a backend that choice stays.
        matplotlib.use("agg")
    import matplotlib.pyplot as plt

    return plt


def write(figure: Any, path: str | Path) -> Path:
    """Write a figure to a PNG file, whose directory is made if need be, and close it."""
    path = Path(path)
    path.parent.mkdir(parents=True, exist_ok=True)
    figure.tight_layout()
    figure.savefig(path, dpi=100)
    drawing().close(figure)
    return path
