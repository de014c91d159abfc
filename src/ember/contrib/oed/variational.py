"""Bound expected information gain by densities that are trained.

Foster, Jankowiak, Bingham, Horsfall, Teh, Rainforth & Goodman (2019), Variational Bayesian optimal
experimental design.
"""

from __future__ import annotations

import math
from typing import Any

import torch
from torch import Tensor

from ember.contrib.oed.optimisation import opt_eig_ape_loss
from ember.contrib.oed.shapes import lexpand
from ember.contrib.oed.traces import Labels, Model, as_list, run, score, values


def posterior_eig(
    model: Model,
    design: Tensor,
    observation_labels: Labels,
    target_labels: Labels,
    num_samples: int,
    num_steps: int,
    guide: Model,
    optim: Any,
    return_history: bool = False,
    final_design: Tensor | None = None,
    final_num_samples: int | None = None,
    eig: bool = True,
    prior_entropy_kwargs: dict[str, Any] = {},  # noqa: B006  # never changed
    *args: Any,
) -> Any:
    """Return a lower bound, E[log q(θ | y, d)] + H[p(θ)] (Foster et al., equation 6).

    :param model: a function of designs ``(…, features)``.
    :param design: designs, ``batch + (features,)``.
    :param observation_labels: names of the sites of observations.
    :param target_labels: names of the sites θ.
    :param num_samples: number of draws in each step.
    :param num_steps: number of steps of training.
    :param guide: of ``(y_dict, design, observation_labels, target_labels)``, draws the targets.
    :param optim: an optimizer of ``ember.optim``.
    :param return_history: whether to return the average posterior entropies of all steps, too.
    :param final_design: designs of the estimate, by default those of the training.
    :param final_num_samples: number of draws of the estimate.
    :param eig: whether to return the gain, or the average posterior entropy, an upper bound on it.
    :param prior_entropy_kwargs: ``num_prior_samples``, the number of draws for the entropy of the prior.
    :param args: further arguments of the guide.
    """
    observations, targets = as_list(observation_labels), as_list(target_labels)

    def loss_fn(design: Tensor, count: int, evaluation: bool = False) -> tuple[Tensor, Tensor]:
        expanded = lexpand(design, count)
        trace = run(model, expanded)
        guided = run(
            guide,
            values(trace, observations),
            expanded,
            observations,
            targets,
            *args,
            data=values(trace, targets),
        )
        return _loss_and_mean(-score(guided, targets))

    found = opt_eig_ape_loss(
        design, loss_fn, num_samples, num_steps, optim, return_history, final_design, final_num_samples
    )
    if not eig:
        return found
    designs = design if final_design is None else final_design
    entropy = prior_entropy(model, designs, targets, **prior_entropy_kwargs)
    return (found[0], entropy - found[1]) if return_history else entropy - found


def prior_entropy(model: Model, design: Tensor, targets: list[str], num_prior_samples: int = 1000) -> Tensor:
    """Return the entropy of the targets: of each site exactly where that is known, averaged over draws."""
    with torch.no_grad():
        trace = run(model, lexpand(design, num_prior_samples))
        terms = []
        for name in targets:
            site = trace.nodes[name]
            try:
                terms.append(site["fn"].entropy().expand(site["log_prob"].shape))
            except NotImplementedError:
                terms.append(-site["log_prob"])
        total: Any = sum(terms)
        return total.mean(0)


def marginal_eig(
    model: Model,
    design: Tensor,
    observation_labels: Labels,
    target_labels: Labels,
    num_samples: int,
    num_steps: int,
    guide: Model,
    optim: Any,
    return_history: bool = False,
    final_design: Tensor | None = None,
    final_num_samples: int | None = None,
) -> Any:
    """Return an upper bound, E[log p(y | θ, d) − log q(y | d)] (Foster et al., equation 8).

    It holds if all latents are targets. Parameters are those of :func:`posterior_eig`, except for

    :param guide: of ``(design, observation_labels, target_labels)``, draws the observations.
    """
    observations, targets = as_list(observation_labels), as_list(target_labels)

    def loss_fn(design: Tensor, count: int, evaluation: bool = False) -> tuple[Tensor, Tensor]:
        expanded = lexpand(design, count)
        trace = run(model, expanded)
        guided = run(guide, expanded, observations, targets, data=values(trace, observations))
        terms = -score(guided, observations)
        return terms.mean(0).sum(), (terms + score(trace, observations)).mean(0)

    return opt_eig_ape_loss(
        design, loss_fn, num_samples, num_steps, optim, return_history, final_design, final_num_samples
    )


def marginal_likelihood_eig(
    model: Model,
    design: Tensor,
    observation_labels: Labels,
    target_labels: Labels,
    num_samples: int,
    num_steps: int,
    marginal_guide: Model,
    cond_guide: Model,
    optim: Any,
    return_history: bool = False,
    final_design: Tensor | None = None,
    final_num_samples: int | None = None,
) -> Any:
    """Return an estimate, E[log q(y | θ, d) − log q(y | d)], where p(y | θ, d) is not known (equation 13).

    Parameters are those of :func:`posterior_eig`, except for

    :param marginal_guide: of ``(design, observation_labels, target_labels)``, draws the observations.
    :param cond_guide: of ``(design, theta_dict, observation_labels, target_labels)``, draws them given the
        targets.
    """
    observations, targets = as_list(observation_labels), as_list(target_labels)

    def loss_fn(design: Tensor, count: int, evaluation: bool = False) -> tuple[Tensor, Tensor]:
        expanded = lexpand(design, count)
        trace = run(model, expanded)
        y, theta = values(trace, observations), values(trace, targets)
        marginal = score(run(marginal_guide, expanded, observations, targets, data=y), observations)
        conditional = score(run(cond_guide, expanded, theta, observations, targets, data=y), observations)
        return -(marginal + conditional).mean(0).sum(), (conditional - marginal).mean(0)

    return opt_eig_ape_loss(
        design, loss_fn, num_samples, num_steps, optim, return_history, final_design, final_num_samples
    )


def vnmc_eig(
    model: Model,
    design: Tensor,
    observation_labels: Labels,
    target_labels: Labels,
    num_samples: tuple[int, int],
    num_steps: int,
    guide: Model,
    optim: Any,
    return_history: bool = False,
    final_design: Tensor | None = None,
    final_num_samples: tuple[int, int] | None = None,
) -> Any:
    """Return an upper bound by nested Monte Carlo with trained proposals of θ (Foster et al., equation 11).

    It tends to the gain for many inner draws. Parameters are those of :func:`posterior_eig`, except for

    :param num_samples: numbers of outer and of inner draws; so is ``final_num_samples``.
    """
    observations, targets = as_list(observation_labels), as_list(target_labels)

    def loss_fn(design: Tensor, counts: tuple[int, int], evaluation: bool = False) -> tuple[Tensor, Tensor]:
        outer, inner = counts
        trace = run(model, lexpand(design, outer))
        expanded = lexpand(design, inner, outer)
        y = {name: lexpand(each, inner) for name, each in values(trace, observations).items()}
        proposed = run(guide, y, expanded, observations, targets)
        known = {**y, **values(proposed, targets)}
        joint = score(run(model, expanded, data=known), [*observations, *targets])
        weights = joint - score(proposed, targets)
        terms = score(trace, observations) - weights.logsumexp(0) + math.log(inner)
        return _loss_and_mean(terms)

    return opt_eig_ape_loss(
        design, loss_fn, num_samples, num_steps, optim, return_history, final_design, final_num_samples
    )


def _loss_and_mean(terms: Tensor) -> tuple[Tensor, Tensor]:
    mean = terms.mean(0)
    return mean.sum(), mean
