"""Estimate expected information gain by learning ratios of densities."""

from __future__ import annotations

import math
from typing import Any

from torch import Tensor, nn

import ember
from ember.contrib.oed.optimisation import opt_eig_ape_loss
from ember.contrib.oed.shapes import lexpand
from ember.contrib.oed.traces import Labels, Model, as_list, run, values


def donsker_varadhan_eig(
    model: Model,
    design: Tensor,
    observation_labels: Labels,
    target_labels: Labels,
    num_samples: int,
    num_steps: int,
    T: Any,
    optim: Any,
    return_history: bool = False,
    final_design: Tensor | None = None,
    final_num_samples: int | None = None,
) -> Any:
    """Return a lower bound, E_joint[T] − log E_independent[exp T], with T trained.

    Donsker & Varadhan (1975); Belghazi et al. (2018), Mutual information neural estimation, equation 10.

    :param model: a function of designs ``(…, features)``.
    :param design: designs, ``batch + (features,)``.
    :param observation_labels: names of the sites of observations.
    :param target_labels: names of the sites θ.
    :param num_samples: number of draws in each step.
    :param num_steps: number of steps of training.
    :param T: of ``(design, trace, observation_labels, target_labels)``, reads both from a trace of the model;
        a module's parameters are trained.
    :param optim: an optimizer of ``ember.optim``.
    :param return_history: whether to return the estimates of all steps, too.
    :param final_design: designs of the estimate, by default those of the training.
    :param final_num_samples: number of draws of the estimate.
    """
    observations, targets = as_list(observation_labels), as_list(target_labels)

    def loss_fn(design: Tensor, count: int, evaluation: bool = False) -> tuple[Tensor, Tensor]:
        if isinstance(T, nn.Module):
            ember.module("T", T)
        expanded = lexpand(design, count)
        joint = run(model, expanded)
        independent = run(model, expanded, data=values(joint, observations))
        together = T(expanded, joint, observations, targets)
        apart = T(expanded, independent, observations, targets)
        bound = together.mean(0) - (apart.logsumexp(0) - math.log(count))
        return -bound.sum(), bound

    return opt_eig_ape_loss(
        design, loss_fn, num_samples, num_steps, optim, return_history, final_design, final_num_samples
    )


def lfire_eig(
    model: Model,
    design: Tensor,
    observation_labels: Labels,
    target_labels: Labels,
    num_y_samples: int,
    num_theta_samples: int,
    num_steps: int,
    classifier: Any,
    optim: Any,
    return_history: bool = False,
    final_design: Tensor | None = None,
    final_num_samples: int | None = None,
) -> Any:
    """Return an estimate by classifiers that tell draws of p(y | θ, d) from those of p(y | d).

    Thomas, Dutta, Corander, Kaski & Gutmann (2016), Likelihood-free inference by ratio estimation;
    Kleinegesse & Gutmann (2019), Efficient Bayesian experimental design for implicit models.

    :param model: a function of designs ``(…, features)``.
    :param design: designs, ``batch + (features,)``.
    :param observation_labels: names of the sites of observations.
    :param target_labels: names of the sites θ.
    :param num_y_samples: number of draws of y in each step, of either kind.
    :param num_theta_samples: number of draws of θ, each with a classifier of its own.
    :param num_steps: number of steps of training.
    :param classifier: of ``(design, trace, observation_labels, target_labels)``, gives the log odds that y
        in the trace was drawn given θ, ``(num_y_samples, num_theta_samples) + batch``.
    :param optim: an optimizer of ``ember.optim``.
    :param return_history: whether to return the estimates of all steps, too.
    :param final_design: designs of the estimate, by default those of the training.
    :param final_num_samples: number of draws of y of the estimate.
    """
    observations, targets = as_list(observation_labels), as_list(target_labels)
    theta = values(run(model, lexpand(design, num_theta_samples)), targets)

    def loss_fn(design: Tensor, count: int, evaluation: bool = False) -> tuple[Tensor, Tensor]:
        if isinstance(classifier, nn.Module):
            ember.module("classifier", classifier)
        expanded = lexpand(design, count, num_theta_samples)
        given = run(model, expanded, data={name: lexpand(each, count) for name, each in theta.items()})
        free = run(model, expanded)
        odds_given = classifier(expanded, given, observations, targets)
        odds_free = classifier(expanded, free, observations, targets)
        loss = -(nn.functional.logsigmoid(odds_given) + nn.functional.logsigmoid(-odds_free))
        return loss.mean((0, 1)).sum(), odds_given.mean((0, 1))

    return opt_eig_ape_loss(
        design, loss_fn, num_y_samples, num_steps, optim, return_history, final_design, final_num_samples
    )
