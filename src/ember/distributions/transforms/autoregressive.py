"""Define transforms that are torch modules, and the affine autoregressive one among them."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from typing import Any

import torch
from torch import Tensor, nn
from torch.distributions import constraints
from torch.distributions.transforms import ComposeTransform, Transform


class TransformModule(Transform, nn.Module):
    """Base of transforms with parameters; densities of the last draw need no inverse."""

    def __init__(self, cache_size: int = 1) -> None:
        nn.Module.__init__(self)
        Transform.__init__(self, cache_size=cache_size)

    __hash__ = nn.Module.__hash__


class ComposeTransformModule(ComposeTransform, nn.ModuleList):
    """A composition of transforms that owns the parameters of those parts which are modules."""

    def __init__(self, parts: Sequence[Transform], cache_size: int = 0) -> None:
        nn.ModuleList.__init__(self)
        ComposeTransform.__init__(self, list(parts), cache_size=cache_size)
        for part in parts:
            if isinstance(part, nn.Module):
                self.append(part)

    __hash__ = nn.Module.__hash__


class AffineAutoregressive(TransformModule):
    """The map ``y_i = μ_i(x_<i) + σ_i(x_<i) x_i`` (Kingma et al. 2016, arXiv 1606.04934).

    The inverse takes one pass of the network for each dim.

    :param autoregressive_nn: a network from ``batch + (D,)`` to a pair of tensors of that shape, means and
        logarithms of scales, whose i-th outputs depend on inputs before i only.
    :param log_scale_min_clip: least logarithm of a scale.
    :param log_scale_max_clip: greatest logarithm of a scale.
    :param sigmoid_bias: added before the sigmoid of the stable form.
    :param stable: use the form ``y_i = s_i x_i + (1 − s_i) μ_i`` with ``s = sigmoid(log-scale + bias)``.
    """

    domain = constraints.real_vector
    codomain = constraints.real_vector
    bijective = True

    def __init__(
        self,
        autoregressive_nn: nn.Module,
        log_scale_min_clip: float = -5.0,
        log_scale_max_clip: float = 3.0,
        sigmoid_bias: float = 2.0,
        stable: bool = False,
    ) -> None:
        super().__init__()
        self.arn = autoregressive_nn
        self.log_scale_min_clip = log_scale_min_clip
        self.log_scale_max_clip = log_scale_max_clip
        self.sigmoid_bias = sigmoid_bias
        self.stable = stable

    def _loc_log_scale(self, x: Tensor) -> tuple[Tensor, Tensor]:
        loc, raw = self.arn(x)
        if self.stable:
            log_scale = nn.functional.logsigmoid(raw + self.sigmoid_bias)
            return -torch.expm1(log_scale) * loc, log_scale
        return loc, raw.clamp(self.log_scale_min_clip, self.log_scale_max_clip)

    def _call(self, x: Tensor) -> Tensor:
        loc, log_scale = self._loc_log_scale(x)
        return loc + log_scale.exp() * x

    def _inverse(self, y: Tensor) -> Tensor:
        x = torch.zeros_like(y)
        # Each pass makes at least one more dim right, in whatever order the network has.
        for _ in range(y.shape[-1]):
            loc, log_scale = self._loc_log_scale(x)
            x = (y - loc) * (-log_scale).exp()
        return x

    def log_abs_det_jacobian(self, x: Tensor, y: Tensor) -> Tensor:
        """Return the sum of the scales' logarithms, ``batch``."""
        return self._loc_log_scale(x)[1].sum(-1)


def iterated(repeats: int, base_fn: Callable[..., Transform], *args: Any, **kwargs: Any) -> Any:
    """Compose several transforms, each made by ``base_fn(*args, **kwargs)``.

    :param repeats: number of transforms.
    :raises ValueError: if it is less than one.
    """
    if repeats < 1:
        raise ValueError(f"iterated needs at least one transform, got repeats={repeats}")
    return ComposeTransformModule([base_fn(*args, **kwargs) for _ in range(repeats)])
