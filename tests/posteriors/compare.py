"""Compare draws with a posterior's reference values."""

import re
from typing import NamedTuple

import arviz
import numpy as np


class Comparison(NamedTuple):
    """The worst figures over all parameters of the reference."""

    z: float
    z_at: str
    r_hat_excess: float  # R-hat minus its limit
    r_hat_at: str
    ess: float
    ess_at: str


def compare(idata, parameters):
    """Return the worst z score of mean and sd, R-hat against its limit, and the smallest bulk or tail ESS."""
    worst_z, worst_r, worst_e = (0.0, ""), (-np.inf, ""), (np.inf, "")
    for name, figures in parameters.items():
        draws = select(idata.posterior, name)
        bulk, tail = float(arviz.ess(draws, method="bulk")), float(arviz.ess(draws, method="tail"))
        r_hat, ess = float(arviz.rhat(draws)), min(bulk, tail)
        limit = max(1.02, min(np.sqrt(1 + 40 / ess), 1.05))
        worst_r = max(worst_r, (r_hat - limit, name))
        worst_e = min(worst_e, (ess, name))
        mean, sd = draws.mean(), draws.std(ddof=1)
        # The reference's sd, since draws that miss a heavy tail would make too little of their own error.
        error = figures["sd"] / np.sqrt(float(arviz.ess(draws, method="mean")))
        mcse_mean = np.hypot(error, figures["mcse_mean"])
        of_squares = float(arviz.ess((draws - mean) ** 2, method="mean"))
        mcse_sd = np.hypot(figures["sd_dev2"] / (2 * figures["sd"] * np.sqrt(of_squares)), figures["mcse_sd"])
        worst_z = max(worst_z, (abs(mean - figures["mean"]) / mcse_mean, f"mean of {name}"))
        worst_z = max(worst_z, (abs(sd - figures["sd"]) / mcse_sd, f"sd of {name}"))
    return Comparison(*worst_z, *worst_r, *worst_e)


def select(posterior, name):
    """Return the draws [chain, draw] of a parameter such as ``beta[2]``, which counts from 1."""
    base, index = re.fullmatch(r"(.*?)(?:\[([\d,]+)\])?", name).groups()
    values = posterior[base].values.astype(np.float64)
    places = () if index is None else tuple(int(each) - 1 for each in index.split(","))
    return values[(slice(None), slice(None), *places)]
