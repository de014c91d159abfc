"""Define elliptical families on real vectors."""

from __future__ import annotations

import math
from collections.abc import Sequence

import torch
from torch import Tensor
from torch.distributions import constraints
from torch.distributions.utils import lazy_property

from ..errors import message
from .parameters import Parameter, one, table
from .shapes import broadcast_shape
from .torch_distribution import TorchDistribution, carrying, expand_parameters, finish
from .validation import check_parameter

_EMPTY = torch.Size()


def whiten(scale_tril: Tensor, difference: Tensor) -> Tensor:
    """Return ``scale_tril⁻¹ difference`` for vectors along the last dim, with batch dims broadcast.

    Sample dims to the left of the factor's batch dims become columns of one triangular solve.
    """
    if scale_tril.dim() == 2:
        flat = difference.reshape(-1, difference.shape[-1])
        solved = torch.linalg.solve_triangular(scale_tril, flat.mT, upper=False)
        return solved.mT.reshape(difference.shape)
    extra = difference.dim() + 1 - scale_tril.dim()
    if extra <= 0:
        return torch.linalg.solve_triangular(scale_tril, difference.unsqueeze(-1), upper=False).squeeze(-1)
    columns = difference.flatten(0, extra - 1).movedim(0, -1)
    solved = torch.linalg.solve_triangular(scale_tril, columns, upper=False).movedim(-1, 0)
    return solved.reshape(difference.shape[:extra] + solved.shape[1:])


def log_determinant(scale_tril: Tensor) -> Tensor:
    """Return the log determinant of a triangular matrix with positive diagonal."""
    return scale_tril.diagonal(dim1=-2, dim2=-1).log().sum(-1)


def one_matrix(
    covariance_matrix: Tensor | None, precision_matrix: Tensor | None, scale_tril: Tensor | None
) -> tuple[str, Tensor]:
    """Return the name and value of the one matrix that is given.

    :raises ValueError: if none or several are given, or it has less than two dims.
    """
    matrices = {
        "covariance_matrix": covariance_matrix,
        "precision_matrix": precision_matrix,
        "scale_tril": scale_tril,
    }
    given = [(name, matrix) for name, matrix in matrices.items() if matrix is not None]
    if len(given) != 1:
        raise ValueError(
            message(
                "Exactly one of covariance_matrix or precision_matrix or scale_tril may be specified.",
                actual=[name for name, _ in given] or "none",
            )
        )
    name, matrix = given[0]
    if matrix.dim() < 2:
        raise ValueError(f"{name} must be at least two-dimensional, with optional leading batch dimensions")
    return name, matrix


def factor_of(name: str, matrix: Tensor) -> Tensor:
    """Return the Cholesky factor of the covariance that one of the three matrices stands for."""
    if name == "scale_tril":
        return matrix
    return torch.linalg.cholesky(matrix) if name == "covariance_matrix" else cholesky_of_inverse(matrix)


class MultivariateNormal(torch.distributions.MultivariateNormal, TorchDistribution):
    """The Gaussian on vectors, by ``covariance_matrix``, ``precision_matrix`` or Cholesky ``scale_tril``.

    :param loc: mean, along the last dim.
    :raises ValueError: if not exactly one of the matrices is given, or ``loc`` has no dim.
    """

    parameter_dims = table(loc=1, covariance_matrix=2, precision_matrix=2, scale_tril=2)
    expand = expand_parameters

    def __init__(
        self,
        loc: Tensor,
        covariance_matrix: Tensor | None = None,
        precision_matrix: Tensor | None = None,
        scale_tril: Tensor | None = None,
        validate_args: bool | None = None,
    ) -> None:
        if loc.dim() < 1:
            raise ValueError("loc must be at least one-dimensional.")
        name, matrix = one_matrix(covariance_matrix, precision_matrix, scale_tril)
        batch = matrix.shape[:-2]
        if batch != loc.shape[:-1]:
            batch = broadcast_shape(batch, loc.shape[:-1])
        event = loc.shape[-1:]
        state = self.__dict__
        state[name] = matrix if matrix.shape[:-2] == batch else matrix.expand(batch + matrix.shape[-2:])
        state["loc"] = loc if loc.shape[:-1] == batch else loc.expand(batch + event)
        TorchDistribution.__init__(self, batch, event, validate_args)
        state["_unbroadcasted_scale_tril"] = factor_of(name, matrix)

    def rsample(self, sample_shape: Sequence[int] = _EMPTY) -> Tensor:
        shape = self._extended_shape(sample_shape)
        noise = torch.empty(shape, dtype=self.loc.dtype, device=self.loc.device).normal_()
        return self.loc + (self._unbroadcasted_scale_tril @ noise.unsqueeze(-1)).squeeze(-1)

    def log_prob(self, value: Tensor) -> Tensor:
        if self._validate_args:
            self._validate_sample(value)
        scale_tril = self._unbroadcasted_scale_tril
        z = whiten(scale_tril, value - self.loc)
        normalizer = log_determinant(scale_tril) + 0.5 * math.log(2.0 * math.pi) * z.shape[-1]
        return -0.5 * z.square().sum(-1) - normalizer


def cholesky_of_inverse(precision: Tensor) -> Tensor:
    """Return the Cholesky factor of a matrix's inverse, without forming the inverse."""
    reverse = torch.linalg.cholesky(precision.flip(-2, -1)).flip(-2, -1).mT
    identity = torch.eye(precision.shape[-1], dtype=precision.dtype, device=precision.device)
    return torch.linalg.solve_triangular(reverse, identity, upper=False)


class LowRankMultivariateNormal(torch.distributions.LowRankMultivariateNormal, TorchDistribution):
    """The Gaussian on vectors with covariance ``cov_factor cov_factorᵀ + diag(cov_diag)``."""

    expand = carrying(torch.distributions.LowRankMultivariateNormal.expand)

    def __init__(
        self, loc: Tensor, cov_factor: Tensor, cov_diag: Tensor, validate_args: bool | None = None
    ) -> None:
        if self._validate_args if validate_args is None else validate_args:
            # torch factorises before it checks.
            positive = self.arg_constraints["cov_diag"]
            check_parameter("LowRankMultivariateNormal", "cov_diag", positive, cov_diag)
        super().__init__(loc, cov_factor, cov_diag, validate_args=False)
        finish(self, validate_args)


class MultivariateStudentT(TorchDistribution):
    """Student's t on vectors.

    :param df: degrees of freedom, positive, of the batch shape.
    :param loc: location, along the last dim.
    :param scale_tril: Cholesky factor of the scale matrix.
    """

    arg_constraints = table(
        df=constraints.positive, loc=constraints.real_vector, scale_tril=constraints.lower_cholesky
    )
    support = constraints.real_vector
    has_rsample = True
    parameter_dims = table(df=0, loc=1, scale_tril=2)
    expand = expand_parameters

    def __init__(
        self, df: Parameter, loc: Tensor, scale_tril: Tensor, validate_args: bool | None = None
    ) -> None:
        if loc.dim() < 1 or scale_tril.dim() < 2 or scale_tril.shape[-1] != loc.shape[-1]:
            raise ValueError(
                message(
                    "MultivariateStudentT takes a vector and a square matrix of the same size.",
                    expected="loc of shape (..., d) and scale_tril of shape (..., d, d)",
                    actual=f"loc {tuple(loc.shape)} and scale_tril {tuple(scale_tril.shape)}",
                )
            )
        freedom = one(df) if isinstance(df, Tensor) else torch.scalar_tensor(df, dtype=loc.dtype)
        batch = broadcast_shape(freedom.shape, loc.shape[:-1], scale_tril.shape[:-2])
        self.df = freedom.expand(batch)
        self.loc = loc.expand(batch + loc.shape[-1:])
        self.scale_tril = scale_tril.expand(batch + scale_tril.shape[-2:])
        self._unbroadcasted_scale_tril = scale_tril
        TorchDistribution.__init__(self, batch, loc.shape[-1:], validate_args)

    def rsample(self, sample_shape: Sequence[int] = _EMPTY) -> Tensor:
        shape = self._extended_shape(sample_shape)
        noise = torch.empty(shape, dtype=self.loc.dtype, device=self.loc.device).normal_()
        half = (0.5 * self.df).expand(shape[:-1])
        chi2_over_df = torch._standard_gamma(half).clamp(min=torch.finfo(half.dtype).tiny) / half
        correlated = (self._unbroadcasted_scale_tril @ noise.unsqueeze(-1)).squeeze(-1)
        return self.loc + correlated * chi2_over_df.rsqrt().unsqueeze(-1)

    def log_prob(self, value: Tensor) -> Tensor:
        if self._validate_args:
            self._validate_sample(value)
        n, df = self.loc.shape[-1], self.df
        z = whiten(self._unbroadcasted_scale_tril, value - self.loc)
        more = 0.5 * (df + n)
        normalizer = (
            log_determinant(self._unbroadcasted_scale_tril)
            + 0.5 * n * (math.pi * df).log()
            + (0.5 * df).lgamma()
            - more.lgamma()
        )
        return -more * (z.square().sum(-1) / df).log1p() - normalizer

    @lazy_property
    def covariance_matrix(self) -> Tensor:
        """The scale matrix (times df / (df - 2) it is the covariance)."""
        return self.scale_tril @ self.scale_tril.mT

    @lazy_property
    def precision_matrix(self) -> Tensor:
        """Inverse of the scale matrix."""
        return torch.cholesky_inverse(self.scale_tril)

    @property
    def mean(self) -> Tensor:
        return torch.where(self.df.unsqueeze(-1) > 1.0, self.loc, math.nan)

    @property
    def variance(self) -> Tensor:
        df = self.df.unsqueeze(-1)
        spread = self.scale_tril.square().sum(-1) * df / (df - 2.0)
        return torch.where(df > 2.0, spread, torch.where(df > 1.0, math.inf, math.nan))
