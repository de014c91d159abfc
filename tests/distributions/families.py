"""List one example of every family, with an independent formula for its log probability."""

# ruff: noqa: E501  (one example a line reads as a table)

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass, field
from typing import Any

import kalman
import numpy as np
import scipy.special as sp
import scipy.stats as st
import torch
from torch import Tensor

import ember.distributions as dist

torch_double = torch.float64


def vec(*values: float) -> Tensor:
    return torch.tensor(values, dtype=torch_double)


@dataclass
class Family:
    """One example: how it is built, its shapes, and what is known about it from elsewhere.

    ``reference`` takes a value and the parameters as arrays and returns log probabilities.
    ``fixed`` are arguments that are no differentiable tensors.
    """

    name: str
    params: dict[str, Tensor]
    reference: Callable[..., Any] | None
    batch_shape: tuple[int, ...] = (3,)
    event_shape: tuple[int, ...] = ()
    fixed: dict[str, Any] = field(default_factory=dict)
    build: Callable[..., Any] | None = None
    moments: bool = True
    bad: dict[str, Any] | None = None
    bad_value: Any = None
    tag: str = ""

    @property
    def id(self) -> str:
        return self.name + self.tag

    def make(self, dtype: torch.dtype = torch_double, **overrides: Any) -> Any:
        arguments = {
            name: value.to(dtype) if value.dtype.is_floating_point else value
            for name, value in self.params.items()
        }
        builder = self.build or getattr(dist, self.name)
        return builder(**{**arguments, **self.fixed, **overrides})

    def expected_log_prob(self, value: Tensor) -> Tensor:
        assert self.reference is not None
        arrays = {name: each.numpy() for name, each in self.params.items()}
        return torch.as_tensor(np.array(self.reference(value.numpy(), **arrays, **self.fixed)))


LOC, SCALE = vec(-0.7, 0.3, 2.0), vec(0.5, 1.3, 2.2)
P = vec(0.2, 0.5, 0.9)
A, B = vec(0.7, 2.0, 5.5), vec(1.6, 0.8, 3.0)
MATRIX = torch.tensor([[2.0, 0.5, -0.3], [0.5, 1.0, 0.2], [-0.3, 0.2, 0.7]], dtype=torch_double)
TRIL = torch.linalg.cholesky(MATRIX)
PROBS = torch.tensor([[0.2, 0.5, 0.3], [0.1, 0.1, 0.8]], dtype=torch_double)
MEAN3 = vec(0.3, -1.0, 0.5)
GATE = vec(0.1, 0.3, 0.6)


def _rows(function: Callable[..., Any]) -> Callable[..., Any]:
    """Apply a function of a vector value and row parameters to each row of a batch."""

    def apply(x: Any, **params: Any) -> Any:
        def one(index: tuple[int, ...]) -> Any:
            return function(x[index], **{k: v[index[-1]] if np.ndim(v) else v for k, v in params.items()})

        return np.array([one(i) for i in np.ndindex(*x.shape[:-1])]).reshape(x.shape[:-1])

    return apply


def _zero_inflated(mass: Callable[..., Any]) -> Callable[..., Any]:
    def log_prob(x: Any, gate: Any, **params: Any) -> Any:
        return np.log(np.where(x == 0, gate, 0.0) + (1 - gate) * np.exp(mass(x, **params)))

    return log_prob


def _soft_asymmetric(x: Any, loc: Any, scale: Any, asymmetry: Any, softness: Any) -> Any:
    """Integrate the convolution of both exponential tails with the Gaussian numerically."""
    grid = np.linspace(-60.0, 60.0, 400_001)
    left, right = scale * asymmetry, scale / asymmetry
    result = np.empty(np.broadcast_shapes(np.shape(x), np.shape(loc)))
    for i in np.ndindex(*result.shape):
        j = i[-1]
        tail = np.where(grid < 0, np.exp(grid.clip(max=0) / left[j]), np.exp(-grid.clip(min=0) / right[j]))
        noise = st.norm.pdf(x[i] - loc[j] - grid, scale=scale[j] * softness[j])
        result[i] = np.log(np.trapezoid(tail * noise, grid) / (left[j] + right[j]))
    return result


def _ordered(x: Any, predictor: Any, cutpoints: Any) -> Any:
    below = sp.expit(cutpoints - predictor[:, None])
    edges = np.concatenate([np.zeros((3, 1)), below, np.ones((3, 1))], -1)
    masses = np.broadcast_to(np.diff(edges, axis=-1), (*x.shape, 4))
    return np.log(np.take_along_axis(masses, x[..., None].astype(int), -1)[..., 0])


def _projected(x: Any, concentration: Any) -> Any:
    """Integrate the Gaussian density along each direction numerically."""
    radius = np.linspace(0.0, 30.0, 200_001)
    n = x.shape[-1]
    density = np.exp(-0.5 * ((radius[:, None] * x - concentration) ** 2).sum(-1)) * radius ** (n - 1)
    return np.log(np.trapezoid(density, radius) / (2 * np.pi) ** (n / 2))


def _relaxed_one_hot(x: Any, temperature: Any, probs: Any) -> Any:
    n, temperature = x.shape[-1], float(temperature)
    score = np.log(probs) - (temperature + 1) * np.log(x)
    total = sp.logsumexp(np.log(probs) - temperature * np.log(x))
    return sp.gammaln(n) + (n - 1) * np.log(temperature) + score.sum() - n * total


def _lkj_volume(n: int, eta: Any) -> Any:
    """Return the log normaliser of the LKJ density by its recursion over sizes."""
    total = 0.0
    for k in range(1, n):
        a = eta + 0.5 * (n - 1 - k)
        total = total + 0.5 * k * np.log(np.pi) + sp.gammaln(a) - sp.gammaln(a + 0.5 * k)
    return total


def _lkj(x: Any, concentration: Any, dim: int) -> Any:
    return (concentration - 1) * np.linalg.slogdet(x)[1] - _lkj_volume(dim, concentration)


def _lkj_cholesky(x: Any, concentration: Any, dim: int) -> Any:
    power = 2 * (concentration[..., None] - 1) + dim - np.arange(1, dim + 1)
    diagonal = np.diagonal(x, axis1=-2, axis2=-1)
    return (power * np.log(diagonal)).sum(-1) - _lkj_volume(dim, concentration)


def _sine_model(
    x: Any, phi_loc: Any, psi_loc: Any, phi_concentration: Any, psi_concentration: Any, correlation: Any
) -> Any:
    """Integrate the density over the torus by the rectangle rule, which is exact for periodic functions."""

    def power(phi: Any, psi: Any, last: tuple[int, ...]) -> Any:
        mu, nu, k1, k2, rho = (
            each.reshape(each.shape + last)
            for each in (phi_loc, psi_loc, phi_concentration, psi_concentration, correlation)
        )
        return k1 * np.cos(phi - mu) + k2 * np.cos(psi - nu) + rho * np.sin(phi - mu) * np.sin(psi - nu)

    grid = np.linspace(0, 2 * np.pi, 200, endpoint=False)
    total = np.exp(power(grid[:, None], grid, (1, 1))).mean((-1, -2)) * (2 * np.pi) ** 2
    return power(x[..., 0], x[..., 1], ()) - np.log(total)


LOCATIONS = torch.tensor(
    [[[0.5, -1.0], [2.0, 0.3], [-1.5, 1.0]], [[0.1, 0.2], [-0.4, 3.0], [1.0, -2.0]]], dtype=torch_double
)


def _normal_mixture(x: Any, locs: Any, coord_scale: Any, component_logits: Any) -> Any:
    densities = st.norm.logpdf(x[..., None, :], locs, coord_scale).sum(-1)
    return sp.logsumexp(densities + sp.log_softmax(component_logits), -1)


def _noisy_negative_binomial(
    x: Any, total_count: Any, logits: Any, multiplicative_noise_scale: Any, **_: Any
) -> Any:
    noise = np.linspace(-9.0, 9.0, 2001)[:, None, None]
    mass = st.nbinom.pmf(x, total_count, sp.expit(-(logits + multiplicative_noise_scale * noise)))
    return np.log(np.trapezoid(mass * st.norm.pdf(noise), noise, axis=0))


def _stick_breaking_normal(x: Any, loc: Any, scale: Any) -> Any:
    rest = 1 - np.concatenate([[0.0], np.cumsum(x[:-1])])
    z = x[:-1] / rest[:-1]
    free = sp.logit(z) + np.log(len(loc) - np.arange(len(loc)))
    jacobian = np.log(z) + np.log1p(-z) + np.log(rest[:-1])
    return (st.norm.logpdf(free, loc, scale) - jacobian).sum()


def _truncated(x: Any, loc: Any, scale: Any, low: Any, high: Any) -> Any:
    return st.truncnorm.logpdf(x, (low - loc) / scale, (high - loc) / scale, loc, scale)


REAL = {"loc": LOC, "scale": SCALE}
BAD_SCALE = {"scale": vec(1.0, -2.0, 1.0)}

UNIVARIATE = [
    Family("Normal", REAL, lambda x, loc, scale: st.norm.logpdf(x, loc, scale), bad=BAD_SCALE),
    Family("Cauchy", REAL, lambda x, loc, scale: st.cauchy.logpdf(x, loc, scale), moments=False, bad=BAD_SCALE),
    Family("Laplace", REAL, lambda x, loc, scale: st.laplace.logpdf(x, loc, scale), bad=BAD_SCALE),
    Family("Logistic", REAL, lambda x, loc, scale: st.logistic.logpdf(x, loc, scale), bad=BAD_SCALE),
    Family("Gumbel", REAL, lambda x, loc, scale: st.gumbel_r.logpdf(x, loc, scale), bad=BAD_SCALE),
    Family("SoftLaplace", REAL, lambda x, loc, scale: st.hypsecant.logpdf(x, loc, scale), bad=BAD_SCALE),
    Family(
        "StudentT",
        {"df": vec(2.5, 4.5, 30.0), **REAL},
        lambda x, df, loc, scale: st.t.logpdf(x, df, loc, scale),
        moments=False,
        bad={"df": vec(-1.0, 2.0, 3.0)},
    ),
    Family(
        "AsymmetricLaplace",
        {**REAL, "asymmetry": vec(0.5, 1.0, 1.8)},
        lambda x, loc, scale, asymmetry: st.laplace_asymmetric.logpdf(x, asymmetry, loc, scale),
        bad=BAD_SCALE,
    ),
    Family("SoftAsymmetricLaplace", {**REAL, "asymmetry": vec(0.5, 1.0, 1.8), "softness": vec(0.3, 1.0, 0.7)},
           _soft_asymmetric, bad=BAD_SCALE),
    Family(
        "SkewLogistic",
        {**REAL, "asymmetry": vec(0.5, 1.0, 1.8)},
        lambda x, loc, scale, asymmetry: st.genlogistic.logpdf(x, asymmetry, loc, scale),
        bad=BAD_SCALE,
    ),
    Family("TruncatedNormal", {**REAL, "low": vec(-1.0, -0.5, 9.0), "high": vec(0.0, 8.0, 20.0)}, _truncated,
           bad=BAD_SCALE, bad_value=vec(-5.0, 0.0, 10.0)),
    Family("TruncatedNormal", REAL, lambda x, loc, scale, low: _truncated(x, loc, scale, low, np.inf),
           fixed={"low": 0.0}, bad_value=vec(-5.0, 1.0, 10.0), tag="-below"),
    Family("StableWithLogProb", {"stability": vec(1.5, 0.8, 1.0), "skew": vec(0.3, -0.5, 0.6), "scale": SCALE, "loc": LOC},
           None, moments=False, bad={"stability": vec(2.5, 1.0, 1.0)}),
    Family("VonMises", {"loc": LOC, "concentration": SCALE},
           lambda x, loc, concentration: st.vonmises.logpdf(x, concentration, loc), moments=False,
           bad={"concentration": vec(-1.0, 1.0, 1.0)}),
    Family("Exponential", {"rate": SCALE}, lambda x, rate: st.expon.logpdf(x, scale=1 / rate),
           bad={"rate": vec(0.0, 1.0, 1.0)}, bad_value=vec(-1.0, 1.0, 1.0)),
    Family("Gamma", {"concentration": A, "rate": B}, lambda x, concentration, rate:
           st.gamma.logpdf(x, concentration, scale=1 / rate),
           bad={"rate": vec(-1.0, 1.0, 1.0)}, bad_value=vec(-1.0, 1.0, 1.0)),
    Family("InverseGamma", {"concentration": vec(4.5, 6.0, 9.0), "rate": B}, lambda x, concentration, rate:
           st.invgamma.logpdf(x, concentration, scale=rate),
           bad={"rate": vec(-1.0, 1.0, 1.0)}, bad_value=vec(-1.0, 1.0, 1.0)),
    Family("Chi2", {"df": vec(1.5, 3.0, 8.0)}, lambda x, df: st.chi2.logpdf(x, df), bad_value=vec(-1.0, 1.0, 1.0)),
    Family("LogNormal", {"loc": LOC, "scale": vec(0.3, 0.5, 0.4)}, lambda x, loc, scale:
           st.lognorm.logpdf(x, scale, scale=np.exp(loc)), bad=BAD_SCALE, bad_value=vec(-1.0, 1.0, 1.0)),
    Family("HalfNormal", {"scale": SCALE}, lambda x, scale: st.halfnorm.logpdf(x, scale=scale), bad=BAD_SCALE,
           bad_value=vec(-1.0, 1.0, 1.0)),
    Family("HalfCauchy", {"scale": SCALE}, lambda x, scale: st.halfcauchy.logpdf(x, scale=scale), moments=False,
           bad=BAD_SCALE, bad_value=vec(-1.0, 1.0, 1.0)),
    Family("Weibull", {"scale": SCALE, "concentration": A}, lambda x, scale, concentration:
           st.weibull_min.logpdf(x, concentration, scale=scale), bad=BAD_SCALE, bad_value=vec(-1.0, 1.0, 1.0)),
    Family("Pareto", {"scale": SCALE, "alpha": vec(4.5, 5.0, 9.0)}, lambda x, scale, alpha:
           st.pareto.logpdf(x, alpha, scale=scale), bad=BAD_SCALE, bad_value=vec(0.1, 3.0, 4.0)),
    Family("GeneralizedPareto", {**REAL, "concentration": vec(0.1, -0.3, 0.2)}, lambda x, loc, scale, concentration:
           st.genpareto.logpdf(x, concentration, loc, scale), bad=BAD_SCALE, bad_value=vec(-2.0, 1.0, 3.0)),
    Family("FisherSnedecor", {"df1": vec(3.0, 5.0, 8.0), "df2": vec(9.0, 12.0, 15.0)}, lambda x, df1, df2:
           st.f.logpdf(x, df1, df2), bad={"df1": vec(-3.0, 5.0, 8.0)}, bad_value=vec(-1.0, 1.0, 1.0)),
    Family("FoldedDistribution", REAL, lambda x, loc, scale: st.foldnorm.logpdf(x, abs(loc) / scale, scale=scale),
           build=lambda loc, scale, **k: dist.FoldedDistribution(dist.Normal(loc, scale, **k), **k),
           moments=False, bad_value=vec(-1.0, 1.0, 1.0)),
    Family("Uniform", {"low": vec(-1.0, 0.0, 2.0), "high": vec(0.5, 1.0, 7.0)}, lambda x, low, high:
           st.uniform.logpdf(x, low, high - low), bad={"low": vec(3.0, 0.0, 2.0)}, bad_value=vec(3.0, 0.5, 3.0)),
    Family("Beta", {"concentration1": A, "concentration0": B}, lambda x, concentration1, concentration0:
           st.beta.logpdf(x, concentration1, concentration0), bad={"concentration1": vec(-1.0, 1.0, 1.0)},
           bad_value=vec(1.5, 0.5, 0.5)),
    Family("AffineBeta", {"concentration1": A, "concentration0": B, **REAL},
           lambda x, concentration1, concentration0, loc, scale:
           st.beta.logpdf(x, concentration1, concentration0, loc, scale), bad=BAD_SCALE, bad_value=vec(9.0, 1.0, 3.0)),
    Family("Kumaraswamy", {"concentration1": A, "concentration0": B}, lambda x, concentration1, concentration0:
           np.log(concentration1 * concentration0) + (concentration1 - 1) * np.log(x)
           + (concentration0 - 1) * np.log1p(-(x**concentration1)),
           bad={"concentration1": vec(-1.0, 1.0, 1.0)}, bad_value=vec(1.5, 0.5, 0.5)),
    Family("ContinuousBernoulli", {"probs": vec(0.2, 0.6, 0.9)}, lambda x, probs:
           x * np.log(probs) + (1 - x) * np.log1p(-probs) + np.log(2 * np.arctanh(1 - 2 * probs) / (1 - 2 * probs)),
           bad={"probs": vec(1.5, 0.5, 0.5)}, bad_value=vec(1.5, 0.5, 0.5)),
    Family("RelaxedBernoulli", {"probs": P}, lambda x, probs, temperature:
           st.logistic.logpdf(sp.logit(x), sp.logit(probs) / temperature, 1 / temperature) - np.log(x * (1 - x)),
           fixed={"temperature": 0.7}, moments=False, bad={"probs": vec(1.5, 0.5, 0.5)}, bad_value=vec(1.5, 0.5, 0.5)),
]  # fmt: skip

COUNTS = [
    Family("Bernoulli", {"probs": P}, lambda x, probs: st.bernoulli.logpmf(x, probs),
           bad={"probs": vec(1.5, 0.5, 0.5)}, bad_value=vec(0.5, 0.0, 1.0)),
    Family("Bernoulli", {"logits": LOC}, lambda x, logits: st.bernoulli.logpmf(x, sp.expit(logits)),
           bad={"logits": vec(float("nan"), 0.5, 0.5)}, bad_value=vec(0.5, 0.0, 1.0), tag="-logits"),
    Family("Geometric", {"probs": P}, lambda x, probs: st.geom.logpmf(x + 1, probs),
           bad={"probs": vec(1.5, 0.5, 0.5)}, bad_value=vec(-1.0, 0.0, 1.0)),
    Family("Geometric", {"logits": LOC}, lambda x, logits: st.geom.logpmf(x + 1, sp.expit(logits)),
           bad_value=vec(-1.0, 0.0, 1.0), tag="-logits"),
    Family("Binomial", {"probs": P}, lambda x, probs, total_count: st.binom.logpmf(x, total_count, probs),
           fixed={"total_count": 6}, bad={"probs": vec(1.5, 0.5, 0.5)}, bad_value=vec(7.0, 0.0, 1.0)),
    Family("ExtendedBinomial", {"probs": P}, lambda x, probs, total_count: st.binom.logpmf(x, total_count, probs),
           fixed={"total_count": 6}, bad={"probs": vec(1.5, 0.5, 0.5)}),
    Family("Poisson", {"rate": SCALE}, lambda x, rate: st.poisson.logpmf(x, rate),
           bad={"rate": vec(-1.0, 1.0, 1.0)}, bad_value=vec(-1.0, 0.0, 1.0)),
    Family("NegativeBinomial", {"total_count": A, "probs": P}, lambda x, total_count, probs:
           st.nbinom.logpmf(x, total_count, 1 - probs), bad={"total_count": vec(-1.0, 1.0, 1.0)},
           bad_value=vec(-1.0, 0.0, 1.0)),
    Family("BetaBinomial", {"concentration1": A, "concentration0": B}, lambda x, concentration1, concentration0,
           total_count: st.betabinom.logpmf(x, total_count, concentration1, concentration0),
           fixed={"total_count": 6}, bad={"concentration1": vec(-1.0, 1.0, 1.0)}, bad_value=vec(7.0, 0.0, 1.0)),
    Family("ExtendedBetaBinomial", {"concentration1": A, "concentration0": B}, lambda x, concentration1,
           concentration0, total_count: st.betabinom.logpmf(x, total_count, concentration1, concentration0),
           fixed={"total_count": 6}),
    Family("GammaPoisson", {"concentration": A, "rate": B}, lambda x, concentration, rate:
           st.nbinom.logpmf(x, concentration, rate / (1 + rate)), bad={"rate": vec(-1.0, 1.0, 1.0)},
           bad_value=vec(-1.0, 0.0, 1.0)),
    Family("LogNormalNegativeBinomial", {"total_count": A, "logits": LOC, "multiplicative_noise_scale": vec(0.2, 0.5, 0.4)},
           _noisy_negative_binomial, fixed={"num_quad_points": 40},
           bad={"multiplicative_noise_scale": vec(-1.0, 1.0, 1.0)}, bad_value=vec(-1.0, 0.0, 1.0)),
    Family("ZeroInflatedPoisson", {"rate": SCALE, "gate": GATE},
           _zero_inflated(lambda x, rate: st.poisson.logpmf(x, rate)), bad={"gate": vec(1.5, 0.5, 0.5)},
           bad_value=vec(-1.0, 0.0, 1.0)),
    Family("ZeroInflatedNegativeBinomial", {"total_count": A, "probs": P, "gate": GATE},
           _zero_inflated(lambda x, total_count, probs: st.nbinom.logpmf(x, total_count, 1 - probs)),
           bad={"gate": vec(1.5, 0.5, 0.5)}, bad_value=vec(-1.0, 0.0, 1.0)),
    Family("ZeroInflatedDistribution", {"rate": SCALE, "gate": GATE},
           _zero_inflated(lambda x, rate: st.poisson.logpmf(x, rate)),
           build=lambda rate, gate, **k: dist.ZeroInflatedDistribution(dist.Poisson(rate, **k), gate=gate, **k),
           bad_value=vec(-1.0, 0.0, 1.0)),
    Family("Categorical", {"probs": PROBS}, lambda x, probs: np.log(np.take_along_axis(
           np.broadcast_to(probs, (*x.shape, 3)), x[..., None].astype(int), -1)[..., 0]),
           (2,), moments=False, bad={"probs": -PROBS}, bad_value=torch.tensor([3, 0])),
    Family("OrderedLogistic", {"predictor": LOC, "cutpoints": vec(-1.0, 0.2, 1.5)}, _ordered, moments=False,
           bad={"cutpoints": vec(1.0, 0.0, 2.0)}, bad_value=torch.tensor([4, 0, 0])),
]  # fmt: skip

MULTIVARIATE = [
    Family("OneHotCategorical", {"probs": PROBS}, lambda x, probs: np.log((x * probs).sum(-1)), (2,), (3,),
           bad={"probs": -PROBS}, bad_value=torch.full((2, 3), 0.5, dtype=torch_double)),
    Family("OneHotCategoricalStraightThrough", {"probs": PROBS}, lambda x, probs: np.log((x * probs).sum(-1)),
           (2,), (3,)),
    Family("Multinomial", {"probs": PROBS}, lambda x, probs, total_count: st.multinomial.logpmf(x, total_count, probs),
           (2,), (3,), fixed={"total_count": 5}, bad={"probs": -PROBS},
           bad_value=torch.full((2, 3), -1.0, dtype=torch_double)),
    Family("DirichletMultinomial", {"concentration": torch.stack([A, B])}, lambda x, concentration, total_count:
           st.dirichlet_multinomial.logpmf(x.astype(int), concentration, total_count), (2,), (3,),
           fixed={"total_count": 5}, bad={"concentration": -torch.stack([A, B])}),
    Family("Dirichlet", {"concentration": torch.stack([A, B])},
           _rows(lambda x, concentration: st.dirichlet.logpdf(x, concentration)), (2,), (3,),
           bad={"concentration": -torch.stack([A, B])}, bad_value=torch.full((2, 3), 0.5, dtype=torch_double)),
    Family("RelaxedOneHotCategorical", {"probs": PROBS}, _rows(_relaxed_one_hot), (2,), (3,),
           fixed={"temperature": torch.tensor(0.8, dtype=torch_double)}, moments=False, bad={"probs": -PROBS}),
    Family("LogisticNormal", {"loc": torch.stack([LOC, -LOC]), "scale": torch.stack([SCALE, SCALE])},
           _rows(_stick_breaking_normal), (2,), (4,), moments=False),
    Family("MultivariateNormal", {"loc": torch.stack([MEAN3, -MEAN3]), "covariance_matrix": MATRIX},
           lambda x, loc, covariance_matrix: st.multivariate_normal.logpdf(x - loc, np.zeros(3), covariance_matrix),
           (2,), (3,), bad={"covariance_matrix": -MATRIX}),
    Family("MultivariateNormal", {"loc": MEAN3, "scale_tril": torch.stack([TRIL, 2 * TRIL])},
           _rows(lambda x, loc, scale_tril: st.multivariate_normal.logpdf(x, MEAN3.numpy(), scale_tril @ scale_tril.T)),
           (2,), (3,), bad={"scale_tril": -TRIL}, tag="-tril"),
    Family("MultivariateNormal", {"loc": MEAN3, "precision_matrix": torch.linalg.inv(MATRIX)},
           lambda x, loc, precision_matrix: st.multivariate_normal.logpdf(x, loc, np.linalg.inv(precision_matrix)),
           (), (3,), tag="-precision"),
    Family("LowRankMultivariateNormal", {"loc": MEAN3, "cov_factor": vec(1.0, 0.5, -0.2)[:, None], "cov_diag": SCALE},
           lambda x, loc, cov_factor, cov_diag: st.multivariate_normal.logpdf(
               x, loc, cov_factor @ cov_factor.T + np.diag(cov_diag)), (), (3,), bad={"cov_diag": -SCALE}),
    Family("MultivariateStudentT", {"df": vec(4.5, 7.0), "loc": MEAN3, "scale_tril": TRIL},
           lambda x, df, loc, scale_tril: np.stack([st.multivariate_t.logpdf(
               x[..., i, :], loc, scale_tril @ scale_tril.T, df[i]) for i in range(2)], -1), (2,), (3,),
           bad={"df": vec(-1.0, 2.0)}),
    Family("ProjectedNormal", {"concentration": torch.stack([MEAN3, -3 * MEAN3])}, _rows(_projected), (2,), (3,),
           moments=False, bad_value=torch.ones(2, 3, dtype=torch_double)),
    Family("ProjectedNormal", {"concentration": torch.stack([MEAN3[:2], vec(5.0, 4.0)])}, _rows(_projected),
           (2,), (2,), moments=False, tag="-circle"),
    Family("VonMises3D", {"concentration": torch.stack([MEAN3, -5 * MEAN3])}, lambda x, concentration:
           (x * concentration).sum(-1) + np.log((k := np.linalg.norm(concentration, axis=-1)) / np.sinh(k) / 4 / np.pi),
           (2,), (3,), moments=False, bad_value=torch.ones(2, 3, dtype=torch_double)),
    Family("SineBivariateVonMises", {"phi_loc": LOC, "psi_loc": -LOC, "phi_concentration": SCALE,
           "psi_concentration": A, "correlation": vec(0.3, -1.2, 1.5)}, _sine_model, (3,), (2,), moments=False,
           bad={"phi_concentration": vec(-1.0, 1.0, 1.0)}),
    Family("SineSkewed", {"skewness": torch.stack([vec(0.3, -0.2), vec(0.0, 0.9)])}, lambda x, skewness:
           st.vonmises.logpdf(x, 1.3, 0.4).sum(-1) + np.log1p((skewness * np.sin(x - 0.4)).sum(-1)), (2,), (2,),
           build=lambda skewness, **k: dist.SineSkewed(dist.VonMises(
               torch.full((2,), 0.4, dtype=skewness.dtype), 1.3).to_event(1), skewness, **k), moments=False,
           bad={"skewness": torch.stack([vec(0.3, -0.2), vec(0.5, 0.9)])}),
    Family("OMTMultivariateNormal", {"loc": MEAN3, "scale_tril": torch.stack([TRIL, 2 * TRIL])},
           _rows(lambda x, loc, scale_tril: st.multivariate_normal.logpdf(x, MEAN3.numpy(), scale_tril @ scale_tril.T)),
           (2,), (3,)),
    Family("MixtureOfDiagNormals", {"locs": LOCATIONS, "coord_scale": LOCATIONS.abs() + 0.3, "component_logits": MEAN3},
           _normal_mixture, (2,), (2,), bad={"coord_scale": -LOCATIONS}),
    Family("MixtureOfDiagNormalsSharedCovariance", {"locs": LOCATIONS, "coord_scale": vec(0.5, 1.5),
           "component_logits": MEAN3}, _normal_mixture, (2,), (2,), bad={"coord_scale": vec(-1.0, 1.0)}),
    Family("GaussianScaleMixture", {"coord_scale": vec(0.5, 1.5), "component_logits": MEAN3, "component_scale": A},
           lambda x, coord_scale, component_logits, component_scale: _normal_mixture(
               x, 0.0, component_scale[:, None] * coord_scale, component_logits), (), (2,),
           bad={"component_scale": -A}),
    Family("LKJ", {"concentration": vec(0.6, 1.0, 3.0)}, _lkj, (3,), (4, 4), fixed={"dim": 4}, moments=False,
           bad={"concentration": vec(-1.0, 1.0, 1.0)}, bad_value=2 * torch.eye(4, dtype=torch_double).expand(3, 4, 4)),
    Family("LKJCholesky", {"concentration": vec(0.6, 1.0, 3.0)}, _lkj_cholesky, (3,), (4, 4), fixed={"dim": 4},
           moments=False, bad={"concentration": vec(-1.0, 1.0, 1.0)}),
    Family("Wishart", {"df": vec(4.0, 6.5), "covariance_matrix": MATRIX}, lambda x, df, covariance_matrix: np.stack(
           [st.wishart.logpdf(np.moveaxis(x[..., i, :, :].reshape(-1, 3, 3), 0, -1), df[i], covariance_matrix)
            .reshape(x.shape[:-3]) for i in range(2)], -1), (2,), (3, 3), bad={"df": vec(1.0, 6.0)}),
]  # fmt: skip


def _mixture(probs: Tensor, loc: Tensor, scale: Tensor, **options: Any) -> Any:
    return dist.MixtureSameFamily(
        dist.Categorical(probs, **options), dist.Normal(loc, scale, **options), **options
    )


WRAPPED = [
    Family("MixtureSameFamily", {"probs": vec(0.2, 0.3, 0.5), "loc": LOC, "scale": SCALE}, lambda x, probs, loc, scale:
           np.log((probs * st.norm.pdf(x[..., None], loc, scale)).sum(-1)), (), build=_mixture),
    Family("MaskedMixture", {"mask": torch.tensor([True, False, True]), "rate": A, "scale": SCALE},
           lambda x, mask, rate, scale: np.where(mask, st.halfnorm.logpdf(x, scale=scale),
                                                 st.gamma.logpdf(x, rate, scale=1.0)),
           build=lambda mask, rate, scale, **k: dist.MaskedMixture(
               mask, dist.Gamma(rate, 1.0, **k), dist.HalfNormal(scale, **k), **k)),
    Family("Independent", REAL, lambda x, loc, scale: st.norm.logpdf(x, loc, scale).sum(-1), (), (3,),
           build=lambda loc, scale, **k: dist.Independent(dist.Normal(loc, scale, **k), 1, **k)),
    Family("TransformedDistribution", {"loc": LOC, "scale": vec(0.3, 0.5, 0.4)}, lambda x, loc, scale:
           st.lognorm.logpdf(x, scale, scale=np.exp(loc)), build=lambda loc, scale, **k:
           dist.TransformedDistribution(dist.Normal(loc, scale, **k), [dist.transforms.ExpTransform()], **k),
           moments=False),
    Family("NanMaskedNormal", REAL, lambda x, loc, scale: st.norm.logpdf(x, loc, scale), bad=BAD_SCALE),
    Family("NanMaskedMultivariateNormal", {"loc": MEAN3, "covariance_matrix": MATRIX},
           lambda x, loc, covariance_matrix: st.multivariate_normal.logpdf(x, loc, covariance_matrix), (), (3,)),
    Family("ExpandedDistribution", {"loc": LOC[:1], "scale": SCALE[:1]}, lambda x, loc, scale:
           st.norm.logpdf(x, loc, scale), build=lambda loc, scale, **k:
           dist.ExpandedDistribution(dist.Normal(loc, scale, **k), (3,))),
    Family("Empirical", {"samples": torch.stack([A, B]), "log_weights": PROBS.log()}, None, (2,), (),
           build=lambda samples, log_weights, **k: dist.Empirical(samples, log_weights, **k)),
    Family("Delta", {"v": LOC}, lambda x, v: np.where(x == v, 0.0, -np.inf)),
    Family("Delta", {"v": PROBS, "log_density": LOC[:2]}, lambda x, v, log_density: np.broadcast_to(
           log_density, x.shape[:-1]), (2,), (3,), build=lambda v, log_density, **k:
           dist.Delta(v, log_density, event_dim=1, **k), tag="-event"),
]  # fmt: skip


def _chain(m: Tensor, f: Tensor, q: Tensor, h: Tensor, r: Tensor) -> kalman.Chain:
    return kalman.Chain(m, torch.eye(2, dtype=torch_double), f, torch.zeros_like(m), torch.diag(q**2),
                        h, torch.zeros_like(r), torch.diag(r**2))  # fmt: skip


def _normals(m: Tensor, f: Tensor, q: Tensor, h: Tensor, r: Tensor, **options: Any) -> tuple[Any, ...]:
    zero = torch.zeros((), dtype=m.dtype)
    return (dist.Normal(m, zero + 1, **options).to_event(1), f, dist.Normal(zero, q, **options).to_event(1), h,
            dist.Normal(zero, r, **options).to_event(1))  # fmt: skip


def _joint_normal(x: Any, **params: Any) -> Any:
    mean, cov = kalman.joint(_chain(**{k: torch.as_tensor(v) for k, v in params.items()}), 4)
    return st.multivariate_normal.logpdf(x.reshape(*x.shape[:-2], -1), mean.numpy(), cov.numpy())


def _joint_student(x: Any, rate: Any, **params: Any) -> Any:
    mean, cov = kalman.joint(_chain(**{k: torch.as_tensor(v) for k, v in params.items()}), 4)
    flat = x.reshape(*x.shape[:-2], -1)
    return st.multivariate_t.logpdf(flat, mean.numpy(), cov.numpy() * rate / 3.5, 7.0).reshape(
        flat.shape[:-1]
    )


def _forward(x: Any, initial: Any, transition: Any, loc: Any) -> Any:
    state = np.exp(initial) / np.exp(initial).sum()
    matrix = np.exp(transition) / np.exp(transition).sum(-1, keepdims=True)
    for t in range(x.shape[-1]):
        state = (state[..., None, :] @ matrix)[..., 0, :] * st.norm.pdf(x[..., t, None], loc, 1.0)
    return np.log(state.sum(-1))


STATE_SPACE = {"m": vec(0.3, -0.5), "f": torch.tensor([[0.5, 0.2], [-0.3, 0.8]], dtype=torch_double),
               "q": vec(0.4, 0.9), "h": torch.tensor([[1.0, 0.2, 0.0], [0.5, -1.0, 0.3]], dtype=torch_double),
               "r": vec(0.5, 1.0, 0.7)}  # fmt: skip

CHAINS = [
    Family("GaussianHMM", STATE_SPACE, _joint_normal, (), (4, 3), moments=False, build=lambda validate_args=None, **k:
           dist.GaussianHMM(*_normals(**k, validate_args=validate_args), validate_args=validate_args, duration=4)),
    Family("GammaGaussianHMM", {"rate": vec(2.0), **STATE_SPACE}, _joint_student, (1,), (4, 3), moments=False,
           build=lambda rate, validate_args=None, **k: dist.GammaGaussianHMM(
               dist.Gamma(3.5, rate, validate_args=validate_args), *_normals(**k, validate_args=validate_args),
               validate_args=validate_args, duration=4)),
    Family("DiscreteHMM", {"initial": LOC, "transition": MATRIX, "loc": MEAN3}, _forward, (), (5,), moments=False,
           build=lambda initial, transition, loc, validate_args=None: dist.DiscreteHMM(
               initial, transition, dist.Normal(loc, 1.0, validate_args=validate_args), validate_args, duration=5)),
    Family("IndependentHMM", {"m": torch.stack([LOC, -LOC], -1)}, None, (), (4, 3), moments=False,
           build=lambda m, **k: dist.IndependentHMM(dist.GaussianHMM(
               dist.Normal(m, 1.0, **k).to_event(1), MATRIX[:2, :2].to(m.dtype), dist.Normal(m.new_zeros(2), 1.0).to_event(1),
               m.new_ones(2, 1), dist.Normal(m.new_zeros(1), 1.0).to_event(1), duration=4, **k))),
]  # fmt: skip

FAMILIES = UNIVARIATE + COUNTS + MULTIVARIATE + WRAPPED + CHAINS
