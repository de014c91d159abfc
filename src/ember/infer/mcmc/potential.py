"""Make a density of a user's potential function over a dict of unconstrained values."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from typing import Any

import torch
from torch import Tensor

from ember.infer.mcmc.mcmc_kernel import layout_of
from ember.model.evaluation import double_precision


class PotentialDensity:
    """The density proportional to exp(−potential); evaluated in float64.

    :param potential_fn: unconstrained values by site → scalar.
    :param example: values that give the sites their shapes and dtypes.
    :param transforms: maps from constrained to unconstrained values, for the draws that users read.
    """

    def __init__(
        self,
        potential_fn: Callable[[dict[str, Tensor]], Tensor],
        example: Mapping[str, Tensor],
        transforms: Mapping[str, Any] | None = None,
    ) -> None:
        self.potential_fn = potential_fn
        self.layout = layout_of(dict(example))
        self.transforms = dict(transforms or {})
        self._promote = False
        z = self.layout.join(example)
        try:
            self(z)
        except torch.linalg.LinAlgError:
            return
        except RuntimeError as error:
            # Perhaps the function multiplies float32 tensors of its own with float64 values.
            self._promote = True
            try:
                self(z)
            except Exception:
                raise error from None

    @property
    def size(self) -> int:
        """Length of the vector."""
        return self.layout.size

    inputs: tuple[Tensor, ...] = ()

    def __call__(self, z: Tensor) -> tuple[Tensor, Tensor]:
        """Return the log density at ``z``, ``[size]``, and its gradient."""
        return self.value_and_gradient(z)

    def value_and_gradient(self, z: Tensor, inputs: tuple[Tensor, ...] = ()) -> tuple[Tensor, Tensor]:
        """Return the log density at ``z``, ``[size]``, and its gradient; there are no ``inputs``."""
        with torch.enable_grad(), double_precision(self._promote):
            z = z.detach().requires_grad_(True)
            try:
                value = -self.potential_fn(self.layout.split(z))
            except torch.linalg.LinAlgError:
                return z.new_full((), -torch.inf).detach(), torch.zeros_like(z).detach()
            value = value.reshape(()).to(torch.float64)
            if not value.requires_grad:
                return value, torch.zeros_like(z).detach()
            (gradient,) = torch.autograd.grad(value, z)
        return value.detach(), gradient

    def constrain(self, z: Tensor) -> dict[str, Tensor]:
        """Map vectors ``[..., size]`` to values by site, through the transforms where there are any."""
        values = self.layout.split(z)
        for name, transform in self.transforms.items():
            if name in values:
                values[name] = transform.inv(values[name])
        return self.layout.cast(values)
