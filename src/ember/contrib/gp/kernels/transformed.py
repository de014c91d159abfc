"""Make covariance functions of other ones: exponentials, scaled and warped forms."""

from __future__ import annotations

from collections.abc import Callable, Sequence

from torch import Tensor

from ember.contrib.gp.kernels.kernel import Kernel
from ember.errors import message


class Transforming(Kernel):
    """Base of kernels that transform another one.

    :param kern: the kernel.
    """

    def __init__(self, kern: Kernel) -> None:
        super().__init__(kern.input_dim, kern.active_dims)
        self.kern = kern


class Exponent(Transforming):
    """The covariance exp(k(x, z))."""

    def forward(self, X: Tensor, Z: Tensor | None = None, diag: bool = False) -> Tensor:
        """Return the covariances, as :meth:`Kernel.forward`."""
        return self.kern(X, Z, diag=diag).exp()


class VerticalScaling(Transforming):
    """The covariance f(x) k(x, z) f(z), of a process multiplied by a function.

    :param kern: the kernel.
    :param vscaling_fn: the function f of inputs, with results ``(N,)``.
    """

    def __init__(self, kern: Kernel, vscaling_fn: Callable[[Tensor], Tensor]) -> None:
        super().__init__(kern)
        self.vscaling_fn = vscaling_fn

    def forward(self, X: Tensor, Z: Tensor | None = None, diag: bool = False) -> Tensor:
        """Return the covariances, as :meth:`Kernel.forward`."""
        left = self.vscaling_fn(X)
        if diag:
            return left.square() * self.kern(X, Z, diag=True)
        right = left if Z is None else self.vscaling_fn(Z)
        return left.unsqueeze(1) * self.kern(X, Z) * right.unsqueeze(0)


class Warping(Transforming):
    """The covariance q(k(f(x), f(z))), with warped inputs and a polynomial q.

    :param kern: the kernel.
    :param iwarping_fn: the function f of inputs, by default the identity.
    :param owarping_coef: coefficients of q, nonnegative integers from the constant upwards, by default
        those of the identity.
    :raises ValueError: for negative or fractional coefficients, for which q(k) need be no covariance.
    """

    def __init__(
        self,
        kern: Kernel,
        iwarping_fn: Callable[[Tensor], Tensor] | None = None,
        owarping_coef: Sequence[int] | None = None,
    ) -> None:
        super().__init__(kern)
        if owarping_coef is not None and not all(isinstance(c, int) and c >= 0 for c in owarping_coef):
            raise ValueError(
                message(
                    "Coefficients of a warped kernel are wrong.",
                    expected="nonnegative integers",
                    actual=list(owarping_coef),
                )
            )
        self.iwarping_fn = iwarping_fn
        self.owarping_coef = owarping_coef

    def forward(self, X: Tensor, Z: Tensor | None = None, diag: bool = False) -> Tensor:
        """Return the covariances, as :meth:`Kernel.forward`."""
        if self.iwarping_fn is not None:
            X, Z = self.iwarping_fn(X), None if Z is None else self.iwarping_fn(Z)
        covariance: Tensor = self.kern(X, Z, diag=diag)
        if self.owarping_coef is None:
            return covariance
        # Horner's scheme, from the highest power down.
        value = covariance.new_zeros(covariance.shape)
        for coefficient in reversed(self.owarping_coef):
            value = value * covariance + coefficient
        return value
