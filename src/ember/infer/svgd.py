"""Move particles towards the posterior by Stein variational gradient descent."""

from __future__ import annotations

import math
from collections.abc import Callable
from typing import Any

import torch
from torch import Tensor, nn

from ember import poutine
from ember.distributions import Delta
from ember.guides.continuous import AutoContinuous
from ember.infer.objectives.elbo import PARTICLES, find_max_plate_nesting
from ember.infer.param_sites import unconstrained_params
from ember.infer.stein_kernels import SteinKernel
from ember.model.initialisation import init_to_sample
from ember.poutine.plate_messenger import PlateMessenger


class SVGD:
    """Stein variational gradient descent (Liu & Wang 2016, arXiv 1608.04471).

    Particles live in the unconstrained space of the model's continuous latent sites, and start at draws from
    the prior.

    :param model: a model whose plates can all be vectorised over particles.
    :param kernel: an :class:`~ember.infer.stein_kernels.SteinKernel`.
    :param optim: an optimiser of :mod:`ember.optim`.
    :param num_particles: number of particles, at least 2.
    :param max_plate_nesting: number of batch dims that plates use; found by a run if infinite.
    :param mode: "univariate" for a kernel by coordinate (the default), "multivariate" for one of whole
        particles.
    :raises ValueError: for another mode or number.
    """

    def __init__(
        self,
        model: Callable[..., Any],
        kernel: SteinKernel,
        optim: Callable[..., Any],
        num_particles: int,
        max_plate_nesting: float = math.inf,
        mode: str = "univariate",
    ) -> None:
        if not isinstance(kernel, SteinKernel):
            raise TypeError(f"kernel must be a SteinKernel such as RBFSteinKernel(), got {kernel!r}")
        if num_particles < 2:
            raise ValueError(f"SVGD needs at least 2 particles, got {num_particles}")
        if mode not in ("univariate", "multivariate"):
            raise ValueError(f"mode must be 'univariate' or 'multivariate', got {mode!r}")
        self.model = model
        self.kernel = kernel
        self.optim = optim
        self.num_particles = num_particles
        self.max_plate_nesting = max_plate_nesting
        self.mode = mode
        self.guide = SteinGuide(model, num_particles)

    def step(self, *args: Any, **kwargs: Any) -> dict[str, float]:
        """Move all particles once; arguments are the model's.

        :returns: the mean squared size of the particles' gradient, by site name.
        """
        if self.max_plate_nesting == math.inf:
            self.max_plate_nesting = find_max_plate_nesting(self.model, _no_guide, args, kwargs)
        dim = -int(self.max_plate_nesting) - 1
        self.guide.__dict__["_particle_dim"] = dim
        plate = PlateMessenger(PARTICLES, self.num_particles, dim=dim)
        with poutine.trace(param_only=True) as capture:
            guide_trace = poutine.trace(plate(self.guide)).get_trace(*args, **kwargs)
            replayed = poutine.replay(plate(self.model), trace=guide_trace)
            model_trace = poutine.trace(replayed).get_trace(*args, **kwargs)
            # The guide's points carry minus the log Jacobian of the map from unconstrained space.
            log_joint = model_trace.log_prob_sum() - guide_trace.log_prob_sum()
        log_joint.backward()
        leaf = self.guide.leaf()
        gradient = leaf.grad
        step = self._direction(leaf.detach(), torch.zeros_like(leaf) if gradient is None else gradient)
        leaf.grad = -step
        params = unconstrained_params(capture.trace)
        for param in params:
            if param is not leaf and param.grad is not None:
                param.grad = -param.grad / self.num_particles
        self.optim(params)
        for param in params:
            param.grad = None
        return {name: part.square().mean().item() for name, part in self.guide.split(step)}

    def _direction(self, particles: Tensor, gradient: Tensor) -> Tensor:
        """Return where to move the particles, ``(N, D)``: attraction to the posterior, mutual repulsion."""
        log_kernel, kernel_gradient = self.kernel.log_kernel_and_grad(particles)
        if self.mode == "multivariate":
            log_kernel = log_kernel.sum(-1, keepdim=True)
        kernel = log_kernel.exp()
        moved = kernel * (gradient.unsqueeze(1) + kernel_gradient)
        return moved.mean(0)

    def get_named_particles(self) -> dict[str, Tensor]:
        """Return the particles by site name, each of shape ``(num_particles,) + site shape``."""
        return self.guide.named_particles()


class SteinGuide(AutoContinuous):
    """A guide that is the set of particles, one for each element of the particles' plate."""

    particles: Any

    def __init__(self, model: Callable[..., Any], num_particles: int) -> None:
        super().__init__(model, init_loc_fn=init_to_sample)
        self.__dict__["_num_particles"] = num_particles
        self.__dict__["_particle_dim"] = -1

    def _prepare(self, *args: Any, **kwargs: Any) -> None:
        if self.prototype_trace is not None:
            return
        rows = []
        with poutine.block():
            for _ in range(self._num_particles):
                self._setup_prototype(*args, **kwargs)
                rows.append(self.__dict__.pop("_row"))
        self.particles = nn.Parameter(torch.stack(rows))

    def _make_params(self, loc: Tensor) -> None:
        self.__dict__["_row"] = loc

    def get_posterior(self, *args: Any, **kwargs: Any) -> Any:
        """Return the points, with the particles in their plate's dim."""
        points = self.particles
        ones = (1,) * (-self._particle_dim - 1)
        return Delta(points.reshape(points.shape[:1] + ones + points.shape[1:]), event_dim=1)

    def leaf(self) -> Tensor:
        """Return the tensor of particles that the optimiser moves, ``(N, D)``."""
        with poutine.trace(param_only=True) as capture, self._pyro_context:
            _ = self.particles
        return unconstrained_params(capture.trace)[0]

    def split(self, rows: Tensor) -> list[tuple[str, Tensor]]:
        """Split ``(N, D)`` into parts by site."""
        sizes = [shape.numel() for shape in self._shapes]
        names = [name for name, _ in self._latent_sites()]
        return list(zip(names, rows.split(sizes, -1), strict=True))

    def named_particles(self) -> dict[str, Tensor]:
        """Return the particles in the sites' own spaces."""
        parts = self.split(self.leaf().detach())
        return {
            name: self._transforms[name](part.reshape(part.shape[:1] + shape))
            for (name, part), shape in zip(parts, self._shapes, strict=True)
        }


def _no_guide(*args: Any, **kwargs: Any) -> None:
    """Draw nothing, so that the model draws from its prior."""
