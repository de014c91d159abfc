"""Add and multiply covariance functions."""

from __future__ import annotations

from numbers import Number

from torch import Tensor

from ember.contrib.gp.kernels.kernel import Kernel
from ember.errors import message


class Combination(Kernel):
    """Base of combinations of two kernels; each reads its own active dims.

    :param kern0: a kernel.
    :param kern1: a kernel or a number.
    :raises TypeError: for something else.
    """

    def __init__(self, kern0: Kernel, kern1: Kernel | float) -> None:
        if not isinstance(kern0, Kernel) or not isinstance(kern1, Kernel | Number):
            raise TypeError(
                message(
                    f"{type(self).__name__} cannot combine these.",
                    expected="a kernel, and a kernel or a number",
                    actual=f"{type(kern0).__name__} and {type(kern1).__name__}",
                )
            )
        active_dims = set(kern0.active_dims)
        if isinstance(kern1, Kernel):
            active_dims |= set(kern1.active_dims)
        super().__init__(len(active_dims), sorted(active_dims))
        self.kern0 = kern0
        self.kern1 = kern1

    def _both(self, X: Tensor, Z: Tensor | None, diag: bool) -> tuple[Tensor, Tensor | float]:
        second = self.kern1(X, Z, diag=diag) if isinstance(self.kern1, Kernel) else self.kern1
        return self.kern0(X, Z, diag=diag), second


class Sum(Combination):
    """The covariance of the sum of two independent processes.

    >>> import torch
    >>> from ember.contrib.gp.kernels import RBF, Constant
    >>> Sum(RBF(1), Constant(1))(torch.zeros(2), diag=True)
    tensor([2., 2.], grad_fn=<AddBackward0>)
    """

    def forward(self, X: Tensor, Z: Tensor | None = None, diag: bool = False) -> Tensor:
        """Return the covariances, as :meth:`Kernel.forward`."""
        first, second = self._both(X, Z, diag)
        return first + second


class Product(Combination):
    """The covariance of the product of two independent processes, or of a scaled one."""

    def forward(self, X: Tensor, Z: Tensor | None = None, diag: bool = False) -> Tensor:
        """Return the covariances, as :meth:`Kernel.forward`."""
        first, second = self._both(X, Z, diag)
        return first * second
