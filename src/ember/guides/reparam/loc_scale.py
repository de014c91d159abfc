"""Center or decenter sites of location-scale families."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import torch
from torch import Tensor

from ember.distributions import constraints
from ember.errors import message
from ember.guides.reparam.reparam import Reparam
from ember.poutine.reparam_messenger import ReparamMessage, ReparamResult
from ember.primitives import param, sample


class LocScaleReparam(Reparam):
    """Draw an auxiliary site ``NAME_decentered`` and compute the site from it.

    With centeredness c, location l and scale s, the auxiliary variable has location c·l and scale sᶜ,
    and the site is ``l + s^(1−c) (auxiliary − c·l)`` (Gorinova, Moore & Hoffman 2020, arXiv 1906.03028).

    :param centered: number or tensor from 0 (decentered) to 1 (as it is), or None to learn it by the
        parameter ``NAME_centered``, of the site's event_shape: elements of plates share it.
    :param shape_params: names of further parameters of the family, which stay (found by themselves if None).
    :raises ValueError: if ``centered`` is outside [0, 1].
    """

    def __init__(
        self, centered: float | Tensor | None = None, shape_params: Sequence[str] | None = None
    ) -> None:
        if centered is not None:
            inside = torch.as_tensor(centered)
            if not bool(((inside >= 0) & (inside <= 1)).all()):
                raise ValueError(f"centered must lie in [0, 1], got {centered}")
        self.centered = centered
        self.shape_params = shape_params

    def apply(self, msg: ReparamMessage) -> ReparamResult:
        """Rewrite the site; observed sites stay as they are.

        :raises ValueError: if the site's distribution has no ``loc`` and ``scale``.
        """
        name = msg["name"]
        if msg["is_observed"] or (isinstance(self.centered, (int, float)) and self.centered == 1):
            return {"fn": msg["fn"], "value": msg["value"], "is_observed": msg["is_observed"]}
        fn, event_dim = self._unwrap(msg["fn"])
        names = list(fn.arg_constraints)
        if not {"loc", "scale"} <= set(names):
            raise ValueError(
                message(
                    f"LocScaleReparam cannot rewrite site '{name}'",
                    site=name,
                    expected="a distribution with parameters loc and scale",
                    actual=f"{type(fn).__name__} with parameters {', '.join(names)}",
                )
            )
        if self.shape_params is None:
            self.shape_params = [each for each in names if each not in ("loc", "scale")]
        shape_params = {each: getattr(fn, each) for each in self.shape_params}
        centered = self._centeredness(name, fn, msg["fn"].event_shape)
        moved = type(fn)(loc=fn.loc * centered, scale=fn.scale**centered, **shape_params)
        given = msg["value"]
        if given is not None:  # such as a starting value
            given = (given - fn.loc) * fn.scale ** (centered - 1) + centered * fn.loc
        auxiliary = sample(
            f"{name}_decentered",
            moved.expand(fn.batch_shape).to_event(event_dim),
            obs=given,
            infer={"is_observed": False},
        )
        value = fn.loc + fn.scale ** (1 - centered) * (auxiliary - centered * fn.loc)
        return {"fn": None, "value": value, "is_observed": True}

    def _centeredness(self, name: str, fn: Any, event_shape: torch.Size) -> Any:
        if self.centered is not None:
            return self.centered
        return param(
            f"{name}_centered",
            lambda: fn.loc.new_full(event_shape, 0.5),
            constraint=constraints.unit_interval,
            event_dim=len(event_shape),
        )
