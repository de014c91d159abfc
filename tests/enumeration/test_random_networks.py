"""Compare random small networks of discrete sites, plates and observations with explicit sums."""

import random

import pytest
import torch

import ember
from ember import distributions as dist
from ember import poutine
from ember.infer import TraceEnum_ELBO, config_enumerate, infer_discrete
from ember.ops.indexing import vindex
from ember.poutine import elimination, like_variables
from enumeration.brute_force import joint_table


@pytest.fixture(autouse=True)
def double_precision():
    torch.set_default_dtype(torch.float64)
    yield
    torch.set_default_dtype(torch.float32)


def random_network(seed):
    """Return a model of a few sites in nested plates, its number of latent variables, and its scale.

    Each site depends on up to three earlier ones around it.
    """
    choose = random.Random(seed)
    generator = torch.Generator().manual_seed(seed)
    nesting = choose.choice([(), ("a",), ("a", "b")])
    sizes = {"a": 2, "b": 2}
    specification, variables = [], 0
    for number in range(choose.randint(3, 6)):
        # Further sites are further in, so that plates nest; the number of assignments stays small.
        depth = choose.randint(0, len(nesting))
        elements = 1
        for name in nesting[:depth]:
            elements *= sizes[name]
        kind = "latent" if variables + elements <= 5 else "observed"
        variables += elements if kind == "latent" else 0
        parents = [each for each in specification if each[1] == "latent" and each[2] <= depth]
        parents = choose.sample(parents, min(len(parents), choose.randint(1, 3)))
        states = choose.choice([2, 3]) if kind == "latent" else 2
        shape = tuple(each[4] for each in parents)
        table = torch.rand(*shape, states, generator=generator) + 0.2
        specification.append((f"s{number}", kind, depth, [each[0] for each in parents], states, table))
    scale = choose.choice([1.0, 1.0, 2.5])
    masked = choose.random() < 0.3

    def model():
        tables = {
            name: ember.param(f"{name} table", table, constraint=dist.constraints.positive)
            for name, *_, table in specification
        }
        values = {}
        plates = [ember.plate(name, sizes[name], dim=-1 - place) for place, name in enumerate(nesting)]
        for name, kind, depth, parents, *_ in specification:
            table = tables[name]
            probs = vindex(table, tuple(values[each] for each in parents))
            with poutine.scale(scale=scale):
                entered = plates[:depth]
                for plate in entered:
                    plate.__enter__()
                try:
                    mask = torch.tensor([True, False]) if masked and depth else True
                    with poutine.mask(mask=mask if kind == "observed" else True):
                        obs = None if kind == "latent" else torch.tensor(1)
                        values[name] = ember.sample(name, dist.Categorical(probs), obs=obs)
                finally:
                    for plate in reversed(entered):
                        plate.__exit__(None, None, None)

    return model, variables, scale


@pytest.mark.parametrize("stacked", [False, True])
@pytest.mark.parametrize("seed", range(20))
def test_evidence_gradients_and_best_values(seed, stacked, monkeypatch):
    model, variables, scale = random_network(seed)
    if stacked:  # sum pairs of like variables out together already
        monkeypatch.setattr(elimination, "MANY", 2)
        monkeypatch.setattr(like_variables, "_FEWEST", 2)
        like_variables.plan.cache_clear()
    if not variables:
        return
    loss = TraceEnum_ELBO(strict_enumeration_warning=False).differentiable_loss(
        config_enumerate(model), lambda: None
    )
    values, table = joint_table(model)
    # A scale multiplies the evidence, and not the logarithms inside.
    expected = -scale * (table / scale).logsumexp(0)
    torch.testing.assert_close(loss, expected)
    leaves = list(dict(ember.get_param_store().named_parameters()).values())
    actual = torch.autograd.grad(loss, leaves, allow_unused=True)
    torch.testing.assert_close(actual, torch.autograd.grad(expected, leaves, allow_unused=True))
    inferred = infer_discrete(config_enumerate(model), first_available_dim=-4, temperature=0)
    nodes = poutine.trace(inferred).get_trace().nodes
    best = values[int(table.argmax())]
    assert {name: nodes[name]["value"].tolist() for name in best} == {
        name: value.tolist() for name, value in best.items()
    }
    like_variables.plan.cache_clear()
