"""Summarise draws: moments, intervals, effective sample size and R-hat."""

from __future__ import annotations

import itertools
from collections import OrderedDict
from collections.abc import Mapping
from typing import Any

import torch
from torch import Tensor

from ember.arviz_library import load_arviz

Summary = OrderedDict[str, "OrderedDict[str, Tensor]"]


def summary(samples: Mapping[str, Tensor], prob: float = 0.9, group_by_chain: bool = True) -> Summary:
    """Return, by site, mean, std, median, the ends of the highest density interval, n_eff and r_hat.

    n_eff is the bulk effective sample size and r_hat the rank-normalised split R-hat (Vehtari et al. 2021,
    arXiv 1903.08008), both as ArviZ computes them. A single chain counts as its two halves for r_hat.

    :param samples: draws by site, ``[chains, draws, ...]``, or ``[draws, ...]`` without ``group_by_chain``.
    :param prob: mass of the interval.
    """
    if not 0 < prob < 1:
        raise ValueError(f"prob must lie between 0 and 1, got {prob}")
    grouped = {name: value if group_by_chain else value.unsqueeze(0) for name, value in samples.items()}
    quality = diagnostics(grouped)
    low, high = f"{50 * (1 - prob):.1f}%", f"{50 * (1 + prob):.1f}%"
    result: Summary = OrderedDict()
    for name, value in grouped.items():
        draws = value.flatten(0, 1)
        numbers = draws if draws.dtype.is_floating_point else draws.to(torch.get_default_dtype())
        ends = highest_density_interval(numbers, prob)
        result[name] = OrderedDict(
            [
                ("mean", numbers.mean(0)),
                ("std", numbers.std(0)),
                ("median", numbers.median(0).values),
                (low, ends[0]),
                (high, ends[1]),
                ("n_eff", quality[name]["n_eff"]),
                ("r_hat", quality[name]["r_hat"]),
            ]
        )
    return result


def print_summary(samples: Mapping[str, Tensor], prob: float = 0.9, group_by_chain: bool = True) -> None:
    """Print the summary as a table, a row for each element."""
    print(format_summary(summary(samples, prob, group_by_chain)))


def format_summary(table: Summary) -> str:
    """Return a summary as text, a row for each element of a site."""
    rows: list[tuple[str, list[float]]] = []
    header: list[str] = []
    for name, columns in table.items():
        header = list(columns)
        shape = columns["mean"].shape
        for index in itertools.product(*map(range, shape)):
            label = f"{name}[{','.join(map(str, index))}]" if index else name
            rows.append((label, [float(value[index]) for value in columns.values()]))
    width = max((len(label) for label, _ in rows), default=0)
    width = max(width, 10)
    lines = ["", " ".join([" " * width, *(f"{each:>9}" for each in header)])]
    for label, values in rows:
        lines.append(" ".join([label.rjust(width), *(f"{each:9.2f}" for each in values)]))
    return "\n".join([*lines, ""])


def diagnostics(
    samples: Mapping[str, Tensor], group_by_chain: bool = True
) -> dict[str, OrderedDict[str, Tensor]]:
    """Return n_eff and r_hat by site, see :func:`summary`; NaN where there are fewer than four draws.

    :param samples: draws by site, ``[chains, draws, ...]``, or ``[draws, ...]`` without ``group_by_chain``.
    """
    result: dict[str, OrderedDict[str, Tensor]] = {}
    for name, value in samples.items():
        if not group_by_chain:
            value = value.unsqueeze(0)
        halves = value
        if value.shape[0] == 1:
            half = value.shape[1] // 2
            halves = torch.cat([value[:, :half], value[:, half : 2 * half]])
        result[name] = OrderedDict([("n_eff", _measure("ess", value)), ("r_hat", _measure("rhat", halves))])
    return result


def _measure(kind: str, value: Tensor) -> Tensor:
    """Apply an ArviZ diagnostic to each element of draws ``[chains, draws, ...]``."""
    shape = value.shape[2:]
    dtype = value.dtype if value.dtype.is_floating_point else torch.get_default_dtype()
    if value.shape[1] < 4:
        return torch.full(shape, torch.nan, dtype=dtype)
    arviz = load_arviz()
    import numpy as np

    function: Any = arviz.ess if kind == "ess" else arviz.rhat
    columns = value.detach().cpu().to(torch.float64).reshape(*value.shape[:2], -1).numpy()
    with np.errstate(all="ignore"):  # constant elements have no variance to divide by
        figures = [float(function(columns[:, :, i])) for i in range(columns.shape[2])]
    return torch.tensor(figures, dtype=dtype).reshape(shape)


def highest_density_interval(draws: Tensor, prob: float) -> Tensor:
    """Return the ends ``[2, ...]`` of the shortest interval with a share ``prob`` of draws ``[n, ...]``."""
    ordered = draws.sort(0).values
    count = draws.shape[0]
    inside = min(max(int(prob * count), 0), count - 1)
    starts = ordered[: count - inside]
    widths = ordered[inside:] - starts
    best = widths.min(0, keepdim=True).indices
    return torch.cat([starts.gather(0, best), ordered[inside:].gather(0, best)])


def select_samples(
    samples: Mapping[str, Tensor], num_samples: int | None = None, group_by_chain: bool = False
) -> dict[str, Tensor]:
    """Return all draws, or ``num_samples`` of them drawn at random with replacement.

    :param samples: draws by site, ``[chains, draws, ...]``.
    :param group_by_chain: keep the dimension of chains; else ``[chains * draws, ...]``.
    :raises ValueError: for a number of draws that is not positive.
    """
    if num_samples is not None and num_samples < 1:
        raise ValueError(f"num_samples must be at least 1, got {num_samples}")
    if not samples:
        return {}
    chosen = dict(samples) if group_by_chain else {name: v.flatten(0, 1) for name, v in samples.items()}
    if num_samples is None:
        return chosen
    dim = 1 if group_by_chain else 0
    count = next(iter(chosen.values())).shape[dim]
    index = torch.randint(0, count, (num_samples,))
    return {name: value.index_select(dim, index.to(value.device)) for name, value in chosen.items()}
