"""Sum conjugate latents out of a model, infer the rest, and draw the latents from their posteriors."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import torch
from torch import Tensor

from ember import poutine
from ember.contrib.conjugate.pairs import BetaBinomialPair, ConjugatePair, GammaPoissonPair
from ember.errors import message
from ember.poutine import Trace
from ember.poutine.messenger import Messenger
from ember.poutine.runtime import Message

__all__ = [
    "BetaBinomialPair",
    "CollapseConjugateMessenger",
    "GammaPoissonPair",
    "UncollapseConjugateMessenger",
    "collapse_conjugate",
    "posterior_replay",
    "uncollapse_conjugate",
]

_LATENT = "_conjugate_latent"


class CollapseConjugateMessenger(Messenger):
    """Hide the latent sites of conjugate pairs, and give their observations the compound distributions."""

    def __enter__(self) -> CollapseConjugateMessenger:
        self._collapsed: dict[int, str] = {}
        return super().__enter__()

    def _pyro_sample(self, msg: Message) -> None:
        pair, role = ConjugatePair.of(msg["fn"])
        if pair is None:
            return
        if role == "latent":
            if msg["is_observed"] or msg["value"] is not None:
                return  # its value is known, so there is nothing to sum out
            self._collapsed[id(pair)] = str(msg["name"])
            pair.latent_dist = msg["fn"]
            # Any value will do for the statements that follow, whose score does not depend on it; one that
            # is not random lets the model be captured.
            msg["value"] = pair.latent_dist.mean.detach()
            msg["done"] = msg["stop"] = True
        elif id(pair) in self._collapsed:
            pair.conditional_dist = msg["fn"]
            if pair.latent_dist.batch_shape != pair.conditional_dist.batch_shape:
                raise ValueError(
                    message(
                        "A conjugate latent can be summed out if it has one observation.",
                        site=str(msg["name"]),
                        plates=msg["cond_indep_stack"],
                        expected=f"batch_shape {tuple(pair.latent_dist.batch_shape)}, as the latent's",
                        actual=f"batch_shape {tuple(pair.conditional_dist.batch_shape)}",
                        fix="sum the observations (counts, and their total_count) first",
                    )
                )
            msg["fn"] = pair.compound()
            msg["infer"][_LATENT] = self._collapsed[id(pair)]


class UncollapseConjugateMessenger(Messenger):
    """Draw the latents that a collapsed trace lacks from their posteriors; replay its other sites.

    :param trace: of a model under :func:`collapse_conjugate`.
    """

    def __init__(self, trace: Trace) -> None:
        self.trace = trace
        self._observations = {
            site["infer"][_LATENT]: site
            for site in trace.nodes.values()
            if site["type"] == "sample" and _LATENT in site["infer"]
        }

    def _pyro_sample(self, msg: Message) -> None:
        name = str(msg["name"])
        pair, role = ConjugatePair.of(msg["fn"])
        if pair is not None and role == "latent" and name in self._observations:
            seen = self._observations[name]
            pair.latent_dist = msg["fn"]
            msg["fn"] = pair.posterior(seen["value"], seen["fn"])
        elif name in self.trace.nodes and not msg["is_observed"]:
            msg["value"] = self.trace.nodes[name]["value"]
            msg["done"] = True


def collapse_conjugate(fn: Callable[..., Any] | None = None) -> Any:
    """Return a model whose conjugate latents are summed out (or, without a model, the handler).

    :param fn: a model that draws from the distributions of pairs.

    >>> import torch, ember
    >>> def model(successes):
    ...     pair = BetaBinomialPair()
    ...     p = ember.sample("p", pair.latent(torch.tensor(2.0), torch.tensor(2.0)))
    ...     ember.sample("n", pair.conditional(total_count=10, probs=p), obs=successes)
    >>> trace = poutine.trace(collapse_conjugate(model)).get_trace(torch.tensor(7.0))
    >>> type(trace.nodes["n"]["fn"]).__name__, "p" in trace.nodes
    ('BetaBinomial', False)
    >>> uncollapsed = poutine.trace(uncollapse_conjugate(model, trace)).get_trace(torch.tensor(7.0))
    >>> uncollapsed.nodes["p"]["fn"].mean
    tensor(0.6429)
    """
    handler = CollapseConjugateMessenger()
    return handler if fn is None else handler(fn)


def uncollapse_conjugate(fn: Callable[..., Any] | None = None, trace: Trace | None = None) -> Any:
    """Return a model that draws conjugate latents from their posteriors (or, without a model, the handler).

    :param fn: the model.
    :param trace: of the model under :func:`collapse_conjugate`.
    :raises ValueError: without a trace.
    """
    if trace is None:
        raise ValueError(
            message("There is no trace to take observations from.", fix="uncollapse_conjugate(model, trace)")
        )
    handler = UncollapseConjugateMessenger(trace)
    return handler if fn is None else handler(fn)


def posterior_replay(
    model: Callable[..., Any], posterior_samples: dict[str, Tensor], *args: Any, **kwargs: Any
) -> dict[str, Tensor]:
    """Return posterior draws of all latents, given draws of those that were not summed out.

    :param model: the model.
    :param posterior_samples: draws from the model under :func:`collapse_conjugate`, ``(N,) + shape`` each.
    :param args: arguments of the model.
    :param kwargs: keywords of the model.
    """
    count = len(next(iter(posterior_samples.values())))
    rows: list[dict[str, Tensor]] = []
    with torch.no_grad():
        for i in range(count):
            known = {name: draws[i] for name, draws in posterior_samples.items()}
            conditioned = poutine.condition(model, data=known)
            collapsed = poutine.trace(collapse_conjugate(conditioned)).get_trace(*args, **kwargs)
            full = poutine.trace(uncollapse_conjugate(conditioned, collapsed)).get_trace(*args, **kwargs)
            latents = [n for n in full.stochastic_nodes if type(full.nodes[n]["fn"]).__name__ != "_Subsample"]
            drawn = {name: full.nodes[name]["value"] for name in latents}
            rows.append({**known, **drawn})
    return {name: torch.stack([row[name] for row in rows]) for name in rows[0]} if rows else {}
