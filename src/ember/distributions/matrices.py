"""Define families on correlation and covariance matrices."""

# mypy: disable-error-code="override"
# Properties stand where torch keeps composite instances.

from __future__ import annotations

import math
from collections.abc import Sequence
from typing import Any

import torch
from torch import Tensor

from . import constraints
from .bounded import Beta
from .multivariate import factor_of, log_determinant, one_matrix, whiten
from .parameters import Parameter, one, table
from .shapes import broadcast_shape
from .torch_distribution import TorchDistribution, expand_parameters

_EMPTY = torch.Size()


class LKJCholesky(torch.distributions.LKJCholesky, TorchDistribution):
    """Cholesky factors of correlation matrices, density proportional to det(correlation)^(η - 1).

    Drawn by the onion method (Lewandowski, Kurowicka & Joe 2009).

    :param dim: size of the matrix, at least 2.
    :param concentration: η, positive.
    """

    def __init__(self, dim: int, concentration: Parameter = 1.0, validate_args: bool | None = None) -> None:
        if dim < 2:
            raise ValueError(f"Expected dim to be an integer greater than or equal to 2. Found dim={dim}.")
        self.dim = dim
        self.concentration = concentration = one(concentration)
        TorchDistribution.__init__(self, concentration.shape, torch.Size((dim, dim)), validate_args)

    parameter_dims = table(concentration=0)
    expand = expand_parameters

    @property
    def _beta(self) -> Beta:
        """Squared lengths of the rows below the diagonal."""
        eta = self.concentration.unsqueeze(-1)
        k = torch.arange(1, self.dim, dtype=eta.dtype, device=eta.device)
        return Beta(0.5 * k, eta + 0.5 * (self.dim - 1 - k), validate_args=False)

    def sample(self, sample_shape: Sequence[int] = _EMPTY) -> Tensor:
        with torch.no_grad():
            square = self._beta.sample(torch.Size(sample_shape))
            noise = square.new_empty((*square.shape, self.dim - 1)).normal_().tril()
            rows = noise / noise.norm(dim=-1, keepdim=True) * square.sqrt().unsqueeze(-1)
            below = torch.nn.functional.pad(rows, (0, 1, 1, 0))
            diagonal = torch.nn.functional.pad(
                (1.0 - square).clamp(min=torch.finfo(square.dtype).tiny).sqrt(), (1, 0), value=1.0
            )
            return below + torch.diag_embed(diagonal)

    def log_prob(self, value: Tensor) -> Tensor:
        if self._validate_args:
            self._validate_sample(value)
        eta, n = self.concentration, self.dim
        rows = torch.arange(2, n + 1, dtype=eta.dtype, device=eta.device)
        order = 2.0 * (eta.unsqueeze(-1) - 1.0) + n - rows
        density = (order * value.diagonal(dim1=-1, dim2=-2)[..., 1:].log()).sum(-1)
        return density - self._log_normalizer()

    def _log_normalizer(self) -> Tensor:
        n = self.dim
        alpha = self.concentration + 0.5 * (n - 1)
        k = torch.arange(1, n, dtype=alpha.dtype, device=alpha.device)
        # Product over rows of the surface and radial integrals of the onion's layers.
        layers = (alpha.unsqueeze(-1) - 0.5 * k).lgamma().sum(-1) - (n - 1) * alpha.lgamma()
        return layers + 0.25 * math.log(math.pi) * n * (n - 1)


class LKJ(TorchDistribution):
    """Correlation matrices with density proportional to det^(η - 1).

    :param dim: size of the matrix, at least 2.
    :param concentration: η, positive; 1 gives the uniform distribution.
    """

    arg_constraints = table(concentration=constraints.positive)
    support = constraints.corr_matrix
    parameter_dims = table(base_dist=0)
    expand = expand_parameters

    def __init__(self, dim: int, concentration: Parameter = 1.0, validate_args: bool | None = None) -> None:
        self.base_dist = LKJCholesky(dim, concentration, validate_args=validate_args)
        TorchDistribution.__init__(
            self, self.base_dist.batch_shape, self.base_dist.event_shape, validate_args
        )

    @property
    def dim(self) -> int:
        """Size of the matrix."""
        return self.base_dist.dim

    @property
    def concentration(self) -> Tensor:
        """The exponent η."""
        return self.base_dist.concentration

    def sample(self, sample_shape: Sequence[int] = _EMPTY) -> Tensor:
        factor = self.base_dist.sample(sample_shape)
        product = factor @ factor.mT
        # The diagonal is one but for rounding.
        return product - torch.diag_embed(product.diagonal(dim1=-2, dim2=-1) - 1.0)

    def log_prob(self, value: Tensor) -> Tensor:
        if self._validate_args:
            self._validate_sample(value)
        factor = torch.linalg.cholesky(value)
        eta = self.concentration
        return 2.0 * (eta - 1.0) * log_determinant(factor) - self.base_dist._log_normalizer()

    @property
    def mean(self) -> Tensor:
        identity = torch.eye(self.dim, dtype=self.concentration.dtype, device=self.concentration.device)
        return identity.expand(self._batch_shape + self._event_shape)


class Wishart(torch.distributions.Wishart, TorchDistribution):
    """Covariance matrices of ``df`` Gaussian draws, summed; by one of three scale matrices."""

    parameter_dims = table(df=0, covariance_matrix=2, precision_matrix=2, scale_tril=2)
    expand = expand_parameters

    def __init__(
        self,
        df: Parameter,
        covariance_matrix: Tensor | None = None,
        precision_matrix: Tensor | None = None,
        scale_tril: Tensor | None = None,
        validate_args: bool | None = None,
    ) -> None:
        name, matrix = one_matrix(covariance_matrix, precision_matrix, scale_tril)
        event = matrix.shape[-2:]
        freedom = df if isinstance(df, Tensor) else torch.scalar_tensor(df, dtype=matrix.dtype)
        batch = broadcast_shape(matrix.shape[:-2], freedom.shape)
        state = self.__dict__
        state["df"] = freedom.expand(batch)
        state[name] = matrix.expand(batch + event)
        state["_event_shape"] = event
        TorchDistribution.__init__(self, batch, event, validate_args)
        state["_unbroadcasted_scale_tril"] = factor_of(name, matrix)

    @property
    def arg_constraints(self) -> dict[str, Any]:
        return {
            "df": constraints.greater_than(self._event_shape[-1] - 1),
            "covariance_matrix": constraints.positive_definite,
            "precision_matrix": constraints.positive_definite,
            "scale_tril": constraints.lower_cholesky,
        }

    def rsample(self, sample_shape: Sequence[int] = _EMPTY) -> Tensor:
        # Bartlett's decomposition: chi variables on the diagonal, Gaussian ones below.
        df, shape = self.df, self._extended_shape(sample_shape)
        degrees = df.unsqueeze(-1) - torch.arange(shape[-1], dtype=df.dtype, device=df.device)
        noise = torch.empty(shape, dtype=df.dtype, device=df.device).normal_().tril(-1)
        chi = (2.0 * torch._standard_gamma(0.5 * degrees.expand(shape[:-1]))).sqrt()
        factor = self._unbroadcasted_scale_tril @ (noise + torch.diag_embed(chi))
        return factor @ factor.mT

    def log_prob(self, value: Tensor) -> Tensor:
        if self._validate_args:
            self._validate_sample(value)
        n, df = self._event_shape[-1], self.df
        scale_tril = self._unbroadcasted_scale_tril
        factor = torch.linalg.cholesky(value)
        whitened: Any = whiten(scale_tril.unsqueeze(-3), factor.mT)
        k = torch.arange(n, dtype=df.dtype, device=df.device)
        log_gamma = (0.5 * (df.unsqueeze(-1) - k)).lgamma().sum(-1) + 0.25 * n * (n - 1) * math.log(math.pi)
        return (
            (df - n - 1.0) * log_determinant(factor)
            - 0.5 * whitened.square().sum((-1, -2))
            - 0.5 * df * n * math.log(2.0)
            - df * log_determinant(scale_tril)
            - log_gamma
        )
