"""Integrate Hamiltonian dynamics in dictionaries of positions and momenta."""

from __future__ import annotations

import warnings
from collections.abc import Callable, Mapping
from typing import Any

import torch
from torch import Tensor

Point = Mapping[str, Tensor]


def velocity_verlet(
    z: Point,
    r: Point,
    potential_fn: Callable[[Any], Tensor],
    kinetic_grad: Callable[[Any], Point],
    step_size: float | Tensor,
    num_steps: int = 1,
    z_grads: Point | None = None,
) -> tuple[dict[str, Tensor], dict[str, Tensor], dict[str, Tensor], Tensor]:
    """Take leapfrog steps.

    :param z: positions.
    :param r: momenta.
    :param potential_fn: positions → potential energy.
    :param kinetic_grad: momenta → velocities.
    :param z_grads: the gradient at ``z``, if known.
    :returns: positions, momenta, gradient and potential energy at the end.
    :raises ValueError: for less than one step.
    """
    if num_steps < 1:
        raise ValueError(f"num_steps must be positive, got {num_steps}")
    position, momentum = dict(z), dict(r)
    gradient = dict(z_grads) if z_grads is not None else potential_grad(potential_fn, position)[0]
    energy = torch.zeros(())
    for _ in range(num_steps):
        momentum = {name: momentum[name] - 0.5 * step_size * gradient[name] for name in momentum}
        velocity = kinetic_grad(momentum)
        position = {name: position[name] + step_size * velocity[name] for name in position}
        gradient, energy = potential_grad(potential_fn, position)
        momentum = {name: momentum[name] - 0.5 * step_size * gradient[name] for name in momentum}
    return position, momentum, gradient, energy


def potential_grad(potential_fn: Callable[[Any], Tensor], z: Point) -> tuple[dict[str, Tensor], Tensor]:
    """Return the gradient of a potential energy by name, and its value.

    Where a registered handler recognises an error, both are NaN: the trajectory counts as divergent.
    """
    inputs = {name: value.detach().requires_grad_() for name, value in z.items()}
    try:
        energy = potential_fn(inputs)
    except RuntimeError as error:
        if not any(handler(error) for handler in _handlers.values()):
            raise
        nan = {name: torch.full_like(value, torch.nan) for name, value in z.items()}
        return nan, torch.tensor(torch.nan)
    gradients = torch.autograd.grad(energy, list(inputs.values()))
    return dict(zip(inputs, gradients, strict=True)), energy.detach()


def register_exception_handler(
    name: str, handler: Callable[[Exception], bool], warn_on_overwrite: bool = True
) -> None:
    """Let errors in a potential count as divergences.

    :param name: of the handler; one of the same name is replaced.
    :param handler: says whether an error is to count as a divergence.
    """
    if name in _handlers and warn_on_overwrite:
        warnings.warn(f"the exception handler '{name}' is replaced", stacklevel=2)
    _handlers[name] = handler


def _is_singular(error: Exception) -> bool:
    return isinstance(error, torch.linalg.LinAlgError) or "singular" in str(error)


_handlers: dict[str, Callable[[Exception], bool]] = {"torch_singular": _is_singular}
