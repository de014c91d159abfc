"""Draw the outputs of a layer whose weights are Gaussian, without drawing the weights."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from typing import Any

import torch
from torch import Tensor

import ember.distributions as dist

_EMPTY = torch.Size()


class HiddenLayer(dist.TorchDistribution):
    """The outputs of a layer, non_linearity(X A), with weights A ~ Normal(A_mean, A_scale).

    Its ``log_prob`` is −KL_factor times the divergence of the weights from their prior, whatever the value:
    use it at one site of model and guide, with ``KL_factor=0.0`` in the guide.
    Outputs are drawn by local reparameterisation. Kingma, Salimans & Welling (2015), Variational dropout and
    the local reparameterization trick, section 2.2.

    :param X: inputs, ``(N, D)``.
    :param A_mean: means of the weights, ``(D, H)``.
    :param A_scale: their standard deviations, ``(D, H)``.
    :param non_linearity: applied to the activations, by default relu.
    :param KL_factor: factor of the divergence, such as the share of a minibatch.
    :param A_prior_scale: standard deviations of the weights' prior, whose means are zero.
    :param include_hidden_bias: whether a column of ones is added to the outputs, ``(N, H + 1)``.
    :param weight_space_sampling: whether weights are drawn after all, the same for all inputs.
    """

    arg_constraints: dict[str, Any] = {}  # noqa: RUF012  # as torch declares it
    has_rsample = True

    def __init__(
        self,
        X: Tensor,
        A_mean: Tensor,
        A_scale: Tensor,
        non_linearity: Callable[[Tensor], Tensor] = torch.nn.functional.relu,
        KL_factor: float | Tensor = 1.0,
        A_prior_scale: float | Tensor = 1.0,
        include_hidden_bias: bool = True,
        weight_space_sampling: bool = False,
    ) -> None:
        self.X, self.A_mean, self.A_scale = X, A_mean, A_scale
        self.non_linearity = non_linearity
        self.KL_factor = KL_factor
        self.A_prior_scale = A_prior_scale
        self.include_hidden_bias = include_hidden_bias
        self.weight_space_sampling = weight_space_sampling
        width = A_mean.shape[-1] + int(include_hidden_bias)
        super().__init__(_EMPTY, torch.Size((X.shape[0], width)), validate_args=False)

    @property
    def support(self) -> Any:
        """All real matrices."""
        return dist.constraints.independent(dist.constraints.real, 2)

    @property
    def KL(self) -> Tensor:
        """The divergence of the weights from their prior."""
        ratio = self.A_scale / self.A_prior_scale
        mean = self.A_mean / self.A_prior_scale
        return (0.5 * (ratio.square() + mean.square() - 1.0) - ratio.log()).sum()

    def log_prob(self, value: Tensor) -> Tensor:
        """Return −KL_factor · KL."""
        return -self.KL_factor * self.KL

    def rsample(self, sample_shape: Sequence[int] = _EMPTY) -> Tensor:
        """Draw outputs."""
        shape = torch.Size(sample_shape)
        if self.weight_space_sampling:
            weights = dist.Normal(self.A_mean, self.A_scale).rsample(shape)
            activations = self.X @ weights
        else:
            scale = (self.X.square() @ self.A_scale.square()).sqrt()
            activations = dist.Normal(self.X @ self.A_mean, scale).rsample(shape)
        outputs = self.non_linearity(activations)
        if self.include_hidden_bias:
            outputs = torch.cat([outputs, torch.ones_like(outputs[..., :1])], -1)
        return outputs
