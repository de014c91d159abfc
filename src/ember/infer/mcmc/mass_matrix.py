"""Estimate mass matrices, and go from standard normal vectors to momenta and from these to velocities."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

import torch
from torch import Tensor

from ember.ops import arrowhead
from ember.ops.welford import WelfordArrowheadCovariance, WelfordCovariance

Names = tuple[str, ...]
Shapes = Mapping[Names, tuple[int, ...]]


class BlockMassMatrix:
    """A mass matrix of blocks, each for some sites and diagonal or dense.

    The inverse of each block is the covariance of the draws (Welford's estimate, shrunk as Stan does).

    :param init_scale: first variance of each coordinate.
    """

    def __init__(self, init_scale: float = 1.0) -> None:
        self._init_scale = init_scale
        self._inverse: dict[Names, Tensor] = {}
        self._roots: dict[Names, Tensor] = {}  # of the inverse: Cholesky factors, or square roots
        self._estimators: dict[Names, WelfordCovariance] = {}

    @property
    def mass_matrix_size(self) -> dict[Names, int]:
        """Number of coordinates by block."""
        return {names: value.shape[0] for names, value in self._inverse.items()}

    @property
    def inverse_mass_matrix(self) -> dict[Names, Tensor]:
        """The inverse by block: a vector if the block is diagonal, else a matrix."""
        return self._inverse

    @inverse_mass_matrix.setter
    def inverse_mass_matrix(self, value: Mapping[Names, Tensor]) -> None:
        self._inverse = dict(value)
        self._roots = {
            names: each.sqrt() if each.ndim == 1 else torch.linalg.cholesky(each)
            for names, each in self._inverse.items()
        }

    def configure(
        self,
        mass_matrix_shape: Shapes,
        adapt_mass_matrix: bool = True,
        options: Mapping[str, Any] | None = None,
    ) -> None:
        """Begin with a multiple of the identity.

        :param mass_matrix_shape: by the names of a block's sites, ``(D,)`` for a diagonal block of D
            coordinates, ``(D, D)`` for a dense one.
        :param adapt_mass_matrix: whether draws will come.
        :param options: dtype and device.
        """
        options = options or {}
        self.inverse_mass_matrix = {
            names: self._init_scale
            * (torch.ones(shape, **options) if len(shape) == 1 else _eye(shape, options))
            for names, shape in mass_matrix_shape.items()
        }
        if adapt_mass_matrix:
            self._estimators = {
                names: WelfordCovariance(diagonal=len(shape) == 1)
                for names, shape in mass_matrix_shape.items()
            }

    def update(self, z: Mapping[str, Tensor], z_grad: Mapping[str, Tensor] | None = None) -> None:
        """Take in a draw, unconstrained values by site."""
        for names, estimator in self._estimators.items():
            estimator.update(_joined(z, names).detach())

    def end_adaptation(self) -> None:
        """Put the estimate in place, and begin anew."""
        inverse = {names: each.get_covariance(regularize=True) for names, each in self._estimators.items()}
        self.inverse_mass_matrix = {**self._inverse, **inverse}
        for each in self._estimators.values():
            each.reset()

    def kinetic_grad(self, r: Mapping[str, Tensor]) -> dict[str, Tensor]:
        """Return the velocities M⁻¹ r of momenta by site."""
        result = {}
        for names, inverse in self._inverse.items():
            momentum = _joined(r, names)
            velocity = inverse * momentum if inverse.ndim == 1 else inverse @ momentum
            result.update(_split(velocity, names, r))
        return result

    def scale(
        self, r_unscaled: Mapping[Names, Tensor], r_prototype: Mapping[str, Tensor]
    ) -> dict[str, Tensor]:
        """Turn standard normal vectors into momenta, which have the mass matrix as covariance.

        :param r_unscaled: vectors by block.
        :param r_prototype: values by site that have the sites' shapes.
        """
        result = {}
        for names, root in self._roots.items():
            vector = r_unscaled[names]
            if root.ndim == 1:
                momentum = vector / root
            else:
                momentum = torch.linalg.solve_triangular(root.mT, vector.unsqueeze(-1), upper=True).squeeze(
                    -1
                )
            result.update(_split(momentum, names, r_prototype))
        return result

    def unscale(self, r: Mapping[str, Tensor]) -> dict[Names, Tensor]:
        """Turn momenta by site back into standard normal vectors by block."""
        vectors = {names: _joined(r, names) for names in self._roots}
        return {
            names: root * vectors[names] if root.ndim == 1 else root.mT @ vectors[names]
            for names, root in self._roots.items()
        }


class ArrowheadMassMatrix:
    """A mass matrix that is diagonal beside the leading rows and columns of the sites with dense blocks.

    It is estimated from gradients, whose covariance it is for a normal density.

    :param init_scale: first value of the diagonal.
    """

    def __init__(self, init_scale: float = 1.0) -> None:
        self._init_scale = init_scale
        self._matrix: dict[Names, arrowhead.SymmArrowhead] = {}
        self._roots: dict[Names, arrowhead.TriuArrowhead] = {}
        self._inverse_roots: dict[Names, arrowhead.TriuArrowhead] = {}
        self._estimators: dict[Names, WelfordArrowheadCovariance] = {}

    @property
    def mass_matrix_size(self) -> dict[Names, int]:
        """Number of coordinates, by the names of all sites."""
        return {names: each.top.shape[1] for names, each in self._matrix.items()}

    @property
    def inverse_mass_matrix(self) -> dict[Names, Tensor]:
        """The inverse, a full matrix, by the names of all sites."""
        return {names: arrowhead.triu_gram(each) for names, each in self._inverse_roots.items()}

    @property
    def mass_matrix(self) -> dict[Names, arrowhead.SymmArrowhead]:
        """The mass matrix, by the names of all sites."""
        return self._matrix

    @mass_matrix.setter
    def mass_matrix(self, value: Mapping[Names, arrowhead.SymmArrowhead]) -> None:
        self._matrix = dict(value)
        self._roots = {names: arrowhead.sqrt(each) for names, each in self._matrix.items()}
        self._inverse_roots = {names: arrowhead.triu_inverse(each) for names, each in self._roots.items()}

    def configure(
        self,
        mass_matrix_shape: Shapes,
        adapt_mass_matrix: bool = True,
        options: Mapping[str, Any] | None = None,
    ) -> None:
        """Begin with a multiple of the identity.

        :param mass_matrix_shape: as for :class:`BlockMassMatrix`; the dense blocks are the leading rows.
        :param adapt_mass_matrix: whether gradients will come.
        :param options: dtype and device.
        """
        options = options or {}
        blocks = sorted(mass_matrix_shape.items(), key=lambda item: len(item[1]) == 1)
        names = tuple(name for block, _ in blocks for name in block)
        size = sum(shape[0] for _, shape in blocks)
        head = sum(shape[0] for _, shape in blocks if len(shape) == 2)
        top = self._init_scale * torch.eye(head, size, **options)
        rest = self._init_scale * torch.ones(size - head, **options)
        self.mass_matrix = {names: arrowhead.SymmArrowhead(top, rest)}
        if adapt_mass_matrix:
            self._estimators = {names: WelfordArrowheadCovariance(head_size=head)}

    def update(self, z: Mapping[str, Tensor], z_grad: Mapping[str, Tensor]) -> None:
        """Take in a gradient of the potential, by site."""
        for names, estimator in self._estimators.items():
            estimator.update(_joined(z_grad, names).detach())

    def end_adaptation(self) -> None:
        """Put the estimate in place, and begin anew."""
        self.mass_matrix = {
            names: arrowhead.SymmArrowhead(*each.get_covariance(regularize=True))
            for names, each in self._estimators.items()
        } or self._matrix
        for each in self._estimators.values():
            each.reset()

    def kinetic_grad(self, r: Mapping[str, Tensor]) -> dict[str, Tensor]:
        """Return the velocities M⁻¹ r of momenta by site."""
        result = {}
        for names, inverse in self._inverse_roots.items():
            vector = arrowhead.triu_matvecmul(inverse, _joined(r, names))
            velocity = arrowhead.triu_matvecmul(inverse, vector, transpose=True)
            result.update(_split(velocity, names, r))
        return result

    def scale(
        self, r_unscaled: Mapping[Names, Tensor], r_prototype: Mapping[str, Tensor]
    ) -> dict[str, Tensor]:
        """Turn a standard normal vector into momenta by site, which have the mass matrix as covariance."""
        result = {}
        for names, root in self._roots.items():
            momentum = arrowhead.triu_matvecmul(root, r_unscaled[names])
            result.update(_split(momentum, names, r_prototype))
        return result

    def unscale(self, r: Mapping[str, Tensor]) -> dict[Names, Tensor]:
        """Turn momenta by site back into a standard normal vector."""
        return {
            names: arrowhead.triu_matvecmul(inverse, _joined(r, names))
            for names, inverse in self._inverse_roots.items()
        }


def _eye(shape: tuple[int, ...], options: Mapping[str, Any]) -> Tensor:
    return torch.eye(*shape, **options)


def _joined(values: Mapping[str, Tensor], names: Names) -> Tensor:
    return torch.cat([values[name].reshape(-1) for name in names])


def _split(vector: Tensor, names: Names, like: Mapping[str, Tensor]) -> dict[str, Tensor]:
    parts = vector.split([like[name].numel() for name in names])
    return {name: part.reshape(like[name].shape) for name, part in zip(names, parts, strict=True)}
