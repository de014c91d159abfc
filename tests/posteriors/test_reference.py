"""Sample posteriordb's posteriors and compare means, sds, R-hat and ESS with the reference."""

import pytest
import torch
from compare import compare
from models import POSTERIORS, load, reference

import ember
from ember.infer import MCMC, NUTS
from ember.model.density import Density


@pytest.mark.parametrize("name", POSTERIORS)
def test_dimension_and_gradient(name):
    model, arguments = load(name)
    density = Density(model, kwargs=arguments, seed=0)
    assert density.size == reference(name)["dimension"]
    z = 0.1 * torch.sin(torch.arange(density.size, dtype=torch.float64))
    _, gradient = density(z)
    direction = torch.cos(torch.arange(density.size, dtype=torch.float64))
    step = 1e-5
    slope = (density(z + step * direction)[0] - density(z - step * direction)[0]) / (2 * step)
    torch.testing.assert_close(slope, gradient @ direction, rtol=1e-4, atol=1e-4)


@pytest.mark.slow
@pytest.mark.parametrize("name", POSTERIORS)
def test_agrees_with_reference(name):
    ember.set_rng_seed(20)
    model, arguments = load(name)
    mcmc = MCMC(NUTS(model), 1000, 1000, num_chains=4, disable_progbar=True)
    mcmc.run(**arguments)
    result = compare(mcmc.to_arviz(), reference(name)["params"])
    assert result.z <= 5.0, result
    assert result.r_hat_excess <= 0.0, result
    assert result.ess >= 100, result
