"""Tabulate posteriors, and say in one place whether the chains agree."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

from ember.arviz_library import load_arviz
from ember.report.plots import as_inference_data


@dataclass(frozen=True)
class Convergence:
    """The worst figures over all elements of all variables."""

    r_hat: float
    r_hat_at: str
    bulk_ess: float
    bulk_ess_at: str
    tail_ess: float
    tail_ess_at: str
    num_divergences: int

    def __str__(self) -> str:
        return (
            f"largest R-hat {self.r_hat:.3f} ({self.r_hat_at}), "
            f"smallest bulk ESS {self.bulk_ess:.0f} ({self.bulk_ess_at}), "
            f"smallest tail ESS {self.tail_ess:.0f} ({self.tail_ess_at}), "
            f"{self.num_divergences} divergences"
        )


def table(source: Any, var_names: Sequence[str] | None = None, prob: float = 0.9) -> str:
    """Return mean, sd, interval, Monte Carlo error, ESS and R-hat as text, a row for each element.

    :param source: ``arviz.InferenceData``, or anything with ``to_arviz()``.
    """
    return str(_summary(source, var_names, prob).to_string())


def convergence(source: Any, var_names: Sequence[str] | None = None) -> Convergence:
    """Return the largest R-hat and the smallest effective sample sizes, with where they are."""
    idata = as_inference_data(source)
    frame = _summary(idata, var_names, 0.9)
    statistics = idata.sample_stats if "sample_stats" in idata.groups() else {}
    diverging = statistics["diverging"] if "diverging" in statistics else None  # noqa: SIM401 - a Dataset
    worst = {
        "r_hat": frame["r_hat"].idxmax(),
        "ess_bulk": frame["ess_bulk"].idxmin(),
        "ess_tail": frame["ess_tail"].idxmin(),
    }
    return Convergence(
        r_hat=float(frame["r_hat"].max()),
        r_hat_at=str(worst["r_hat"]),
        bulk_ess=float(frame["ess_bulk"].min()),
        bulk_ess_at=str(worst["ess_bulk"]),
        tail_ess=float(frame["ess_tail"].min()),
        tail_ess_at=str(worst["ess_tail"]),
        num_divergences=0 if diverging is None else int(diverging.sum()),
    )


def _summary(source: Any, var_names: Sequence[str] | None, prob: float) -> Any:
    arviz = load_arviz()

    names = None if var_names is None else list(var_names)
    return arviz.summary(as_inference_data(source), var_names=names, hdi_prob=prob, round_to=4)
