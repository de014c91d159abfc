"""Estimate expected information gain by nested Monte Carlo."""

from __future__ import annotations

import math

import torch
from torch import Tensor

from ember.contrib.oed.shapes import lexpand
from ember.contrib.oed.traces import Labels, Model, as_list, run, score, values


def nmc_eig(
    model: Model,
    design: Tensor,
    observation_labels: Labels,
    target_labels: Labels | None = None,
    N: int = 100,
    M: int = 10,
    M_prime: int | None = None,
    independent_priors: bool = False,
) -> Tensor:
    """Return the expected information gain E[log p(y | θ, d) − log p(y | d)], by nested Monte Carlo.

    The bias is of order 1/M. Rainforth, Cornish, Yang, Warrington & Wood (2018), On nesting Monte Carlo
    estimators, section 6.

    :param model: a function of designs ``(…, features)`` whose sites have the batch shape ``…``.
    :param design: designs, ``batch + (features,)``.
    :param observation_labels: names of the sites of observations.
    :param target_labels: names of the sites θ to be learned; needed with ``M_prime``.
    :param N: number of outer draws.
    :param M: number of inner draws, for p(y | d).
    :param M_prime: number of inner draws for p(y | θ, d), where there are other latents than the targets.
    :param independent_priors: whether the prior of θ does not depend on the design, so that inner draws can
        be shared by the outer ones.
    :return: one number for each design.
    """
    observations, targets = as_list(observation_labels), as_list(target_labels)
    outer = run(model, lexpand(design, N))
    y = values(outer, observations)
    if M_prime is None:
        conditional = score(outer, observations)
    else:
        known = {name: lexpand(each, M_prime) for name, each in {**y, **values(outer, targets)}.items()}
        inner = run(model, lexpand(design, M_prime, N), data=known)
        conditional = score(inner, observations).logsumexp(0) - math.log(M_prime)
    known = {name: lexpand(each, M) for name, each in y.items()}
    again = lexpand(design, M, 1) if independent_priors else lexpand(design, M, N)
    marginal = score(run(model, again, data=known), observations).logsumexp(0) - math.log(M)
    return mean_of_finite(conditional - marginal)


def mean_of_finite(terms: Tensor) -> Tensor:
    """Return the mean along the first dim, without terms that are NaN (both densities were zero)."""
    return torch.nanmean(terms, 0)
