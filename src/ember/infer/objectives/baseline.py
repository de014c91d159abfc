"""Reduce the variance of score-function gradients by baselines that sites ask for."""

from __future__ import annotations

from typing import Any

import torch
from torch import Tensor

from ember.errors import message

_OPTIONS = {
    "nn_baseline",
    "nn_baseline_input",
    "baseline_value",
    "use_decaying_avg_baseline",
    "baseline_beta",
}


class Baselines:
    """Compute what to subtract from a site's cost, from ``infer={"baseline": {...}}``.

    Options: ``nn_baseline`` (a callable or module) with ``nn_baseline_input``, or ``baseline_value`` (a
    tensor), both trained towards the cost; ``use_decaying_avg_baseline`` with ``baseline_beta`` (weight of
    the past, 0.9): a running average of past costs. A baseline is independent of the site's draw, so that the
    gradient stays unbiased (Mnih & Gregor 2014, arXiv 1402.0030).
    """

    # They change in each step, and programs carry them from one to the next.
    _transient_attributes = ("_averages",)

    def __init__(self) -> None:
        self._averages: dict[str, Tensor] = {}

    def state(self) -> dict[str, Tensor]:
        """Return the running averages by site."""
        return dict(self._averages)

    def set_state(self, state: dict[str, Tensor]) -> None:
        """Take over what :meth:`state` gave."""
        self._averages = dict(state)

    def subtract(self, name: str, site: Any, cost: Tensor) -> tuple[Tensor, Any]:
        """Return the cost less its baseline, and the loss that trains the baseline (0.0 if there is none).

        :param cost: detached cost, of the site's batch shape.
        :raises ValueError: for unknown or contradicting options.
        """
        options = site["infer"].get("baseline")
        if not options:
            return cost, 0.0
        _check_options(name, options)
        baseline: Any = 0.0
        if options.get("use_decaying_avg_baseline"):
            baseline = self._past_average(name, cost, options.get("baseline_beta", 0.9))
        trained: Any = None
        if "nn_baseline" in options:
            given = options.get("nn_baseline_input")
            trained = options["nn_baseline"](given.detach() if isinstance(given, Tensor) else given)
        elif "baseline_value" in options:
            trained = options["baseline_value"]
        if trained is None:
            return cost - baseline, 0.0
        if isinstance(trained, Tensor) and trained.shape != cost.shape:
            trained = _fit_shape(name, trained, cost)
        baseline = baseline + trained
        return cost - baseline.detach(), (cost - baseline).square().sum()

    def _past_average(self, name: str, cost: Tensor, beta: float) -> Any:
        if torch.jit.is_tracing():
            raise NotImplementedError(f"the running average that is the baseline of site '{name}' changes")
        past = self._averages.get(name)
        if past is None or past.shape != cost.shape:
            past = torch.zeros_like(cost)
        self._averages[name] = (1 - beta) * cost + beta * past
        return past


def _fit_shape(name: str, trained: Tensor, cost: Tensor) -> Tensor:
    """Bring a baseline to the cost's shape; a network's output often has one more dim, of size 1."""
    if trained.numel() == cost.numel():
        return trained.reshape(cost.shape)
    try:
        return trained.expand(cost.shape)
    except RuntimeError:
        raise ValueError(
            message(
                f"the baseline of site '{name}' has the wrong shape",
                site=name,
                expected=f"a shape that broadcasts to {tuple(cost.shape)}, the site's batch shape",
                actual=tuple(trained.shape),
            )
        ) from None


def _check_options(name: str, options: dict[str, Any]) -> None:
    unknown = set(options) - _OPTIONS
    if unknown or ("nn_baseline" in options and "baseline_value" in options):
        raise ValueError(
            message(
                f"invalid baseline options at site '{name}'",
                site=name,
                expected=f"some of {', '.join(sorted(_OPTIONS))}, not both nn_baseline and baseline_value",
                actual=", ".join(sorted(map(str, options))),
            )
        )
