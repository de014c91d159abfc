"""Sum over all values of a model's discrete sites by running it once for each combination, for comparison."""

import itertools

import torch

from ember import poutine


def latent_sites(model, *args):
    """Return the records of the latent sites of one run, by name."""
    with torch.no_grad():
        nodes = poutine.trace(model).get_trace(*args).nodes
    return {
        name: site
        for name, site in nodes.items()
        if site["type"] == "sample" and not site["is_observed"] and hasattr(site["fn"], "batch_shape")
    }


def assignments(model, *args):
    """Yield every combination of values of the discrete latent sites, as a dict of tensors."""
    sites = latent_sites(model, *args)
    choices = []
    for site in sites.values():
        support = site["fn"].enumerate_support(expand=False).reshape(-1)
        shape = site["value"].shape
        combined = itertools.product(support.tolist(), repeat=shape.numel())
        choices.append([torch.tensor(each, dtype=support.dtype).reshape(shape) for each in combined])
    for values in itertools.product(*choices):
        yield dict(zip(sites, values, strict=True))


def joint_table(model, *args):
    """Return (assignments, their log joint probabilities stacked in a tensor)."""
    found = list(assignments(model, *args))
    totals = []
    for values in found:
        conditioned = poutine.condition(model, data=values)
        totals.append(poutine.trace(conditioned).get_trace(*args).log_prob_sum())
    return found, torch.stack(totals)


def key_of(values):
    """Return an assignment as something hashable."""
    return tuple((name, tuple(values[name].reshape(-1).tolist())) for name in sorted(values))
