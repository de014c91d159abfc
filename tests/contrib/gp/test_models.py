"""Check Gaussian process models against dense formulas, scikit-learn and each other."""

import logging

import numpy as np
import pytest
import torch
from torch.nn import Parameter

import ember
import ember.distributions as dist
from ember import poutine
from ember.contrib.gp import kernels, likelihoods, models, util
from ember.infer import MCMC, NUTS, SVI, Predictive, Trace_ELBO, TraceMeanField_ELBO
from ember.nn import PyroSample

F64 = torch.float64


def data(n=12):
    X = torch.linspace(0.0, 4.0, n, dtype=F64)
    return X, torch.stack([X.sin(), (1.3 * X).cos()]), torch.tensor([0.35, 2.2, 5.0], dtype=F64)


def rbf(**kwargs):
    return kernels.RBF(1, torch.tensor(1.3, dtype=F64), torch.tensor(0.8, dtype=F64), **kwargs)


def variance(value):
    return torch.tensor(value, dtype=F64)


def evidence(model):
    trace = poutine.trace(poutine.block(model.model, hide=["f", "u"])).get_trace()
    return trace.log_prob_sum().item()


def test_regression_agrees_with_scikit_learn():
    from sklearn.gaussian_process import GaussianProcessRegressor
    from sklearn.gaussian_process.kernels import RBF, ConstantKernel

    X, Y, new = data()
    model = models.GPRegression(X, Y[0], rbf(), variance(0.1), jitter=0.0)
    peer = GaussianProcessRegressor(ConstantKernel(1.3) * RBF(0.8), alpha=0.1, optimizer=None)
    peer.fit(X[:, None].numpy(), Y[0].numpy())
    assert evidence(model) == pytest.approx(peer.log_marginal_likelihood_value_)
    loc, covariance = model(new, full_cov=True)
    peer_loc, peer_covariance = peer.predict(new[:, None].numpy(), return_cov=True)
    np.testing.assert_allclose(loc.detach(), peer_loc, rtol=1e-8)
    np.testing.assert_allclose(covariance.detach(), peer_covariance, atol=1e-10)
    torch.testing.assert_close(model(new)[1], covariance.diagonal())
    torch.testing.assert_close(model(new, noiseless=False)[1], covariance.diagonal() + 0.1)
    noisy = model(new, full_cov=True, noiseless=False)[1]
    torch.testing.assert_close(noisy, covariance + 0.1 * torch.eye(3, dtype=F64))


def test_several_outputs_and_a_mean():
    X, Y, new = data()
    both = models.GPRegression(X, Y, rbf(), variance(0.1), mean_function=lambda x: 2.0 + x)
    single = [models.GPRegression(X, y - 2.0 - X, rbf(), variance(0.1)) for y in Y]
    assert evidence(both) == pytest.approx(sum(evidence(each) for each in single))
    loc, spread = both(new)
    torch.testing.assert_close(loc, torch.stack([each(new)[0] + 2.0 + new for each in single]))
    assert spread.shape == (2, 3)


@pytest.mark.parametrize("approx", ["DTC", "FITC", "VFE"])
def test_sparse_regression_follows_the_dense_formulas(approx):
    X, Y, new = data()
    inducing = torch.tensor([0.1, 1.5, 3.0], dtype=F64)
    model = models.SparseGPRegression(X, Y, rbf(), inducing, variance(0.1), approx=approx)
    k = rbf()
    jitter = 1e-6 * torch.eye(3, dtype=F64)
    project = k(X, inducing) @ (k(inducing) + jitter).inverse()
    Q = project @ k(inducing, X)
    lacking = (k(X) - Q).diagonal()
    noise = torch.full((12,), 0.1, dtype=F64) + (lacking if approx == "FITC" else 0.0)
    outputs = dist.MultivariateNormal(torch.zeros(12, dtype=F64), Q + torch.diag(noise))
    expected = outputs.log_prob(Y).sum() - (lacking.sum() / 0.1 if approx == "VFE" else 0.0)
    assert evidence(model) == pytest.approx(expected.item())
    reach = k(new, inducing) @ (k(inducing) + jitter).inverse() @ k(inducing, X)
    gain = reach @ (Q + torch.diag(noise)).inverse()
    loc, covariance = model(new, full_cov=True)
    torch.testing.assert_close(loc, Y @ gain.T, rtol=1e-5, atol=1e-6)
    torch.testing.assert_close(covariance[1], k(new) - gain @ reach.T, rtol=1e-5, atol=1e-6)
    torch.testing.assert_close(model(new)[1], covariance.diagonal(dim1=-2, dim2=-1))


@pytest.mark.parametrize("approx", ["DTC", "FITC", "VFE"])
def test_sparse_regression_at_all_inputs_is_exact(approx):
    X, Y, new = data(7)
    exact = models.GPRegression(X, Y[0], rbf(), variance(0.1))
    sparse = models.SparseGPRegression(X, Y[0], rbf(), X.clone(), variance(0.1), approx=approx)
    assert evidence(sparse) == pytest.approx(evidence(exact), abs=2e-4)
    torch.testing.assert_close(sparse(new), exact(new), rtol=1e-4, atol=1e-4)


@pytest.mark.parametrize("whiten", [False, True])
def test_optimal_guides_give_the_exact_posterior(whiten):
    X, Y, new = data(6)
    exact = models.GPRegression(X, Y[0], rbf(), variance(0.1))
    K = rbf()(X) + 1e-6 * torch.eye(6, dtype=F64)
    covariance = (K.inverse() + 10.0 * torch.eye(6, dtype=F64)).inverse()
    loc, tril = 10.0 * covariance @ Y[0], torch.linalg.cholesky(covariance)
    if whiten:
        factor = torch.linalg.cholesky(K).inverse()
        loc, tril = factor @ loc, torch.linalg.cholesky(factor @ covariance @ factor.T)
    dense = models.VariationalGP(X, Y[0], rbf(), likelihoods.Gaussian(variance(0.1)), whiten=whiten)
    sparse = models.VariationalSparseGP(
        X, Y[0], rbf(), X.clone(), likelihoods.Gaussian(variance(0.1)), whiten=whiten
    )
    for model, name in ((dense, "f"), (sparse, "u")):
        setattr(model, f"{name}_loc", loc.detach())
        setattr(model, f"{name}_scale_tril", tril.detach())
        torch.testing.assert_close(model(new), exact(new), rtol=1e-4, atol=1e-5)
        full = model(new, full_cov=True)[1]
        torch.testing.assert_close(full, exact(new, full_cov=True)[1], rtol=1e-4, atol=1e-5)


@pytest.mark.parametrize("whiten", [False, True])
def test_the_loss_has_the_divergence_of_the_guide(whiten):
    X, Y, _ = data(5)
    model = models.VariationalSparseGP(
        X, Y[0], rbf(), X[::2].clone(), likelihoods.Gaussian(variance(0.3)), whiten=whiten, num_data=50
    )
    prior = torch.eye(3, dtype=F64) if whiten else rbf()(X[::2]) + 1e-6 * torch.eye(3, dtype=F64)
    zero = torch.zeros(3, dtype=F64)
    divergence = torch.distributions.kl_divergence(
        dist.MultivariateNormal(zero, torch.eye(3, dtype=F64)), dist.MultivariateNormal(zero, prior)
    )
    loc, spread = model(X)
    likelihood = dist.Normal(loc, (spread + 0.3).sqrt()).log_prob(Y[0]).sum()
    loss = TraceMeanField_ELBO().loss(model.model, model.guide)
    assert loss == pytest.approx((divergence - 10.0 * likelihood).item())


@pytest.mark.parametrize(
    "likelihood, y, latent_shape",
    [
        (likelihoods.Binary(), [0.0, 0.0, 1.0, 1.0, 1.0, 1.0], ()),
        (likelihoods.Binary(dist.Normal(0.0, 1.0).cdf), [0.0, 0.0, 1.0, 1.0, 1.0, 1.0], ()),
        (likelihoods.Poisson(), [0.0, 1.0, 2.0, 6.0, 7.0, 5.0], ()),
        (likelihoods.MultiClass(3), [0.0, 0.0, 1.0, 1.0, 2.0, 2.0], (3,)),
    ],
)
@pytest.mark.parametrize("sparse", [False, True])
def test_labels_and_counts_are_learned(likelihood, y, latent_shape, sparse):
    X, y = torch.linspace(-2.0, 2.0, 18), torch.tensor(y).repeat_interleave(3)
    kernel = kernels.RBF(1, lengthscale=torch.tensor(1.5))
    shape = torch.Size(latent_shape)
    if sparse:
        model = models.VariationalSparseGP(
            X, y, kernel, X[::4].clone(), likelihood, latent_shape=shape, whiten=True, jitter=1e-4
        )
    else:
        model = models.VariationalGP(X, y, kernel, likelihood, latent_shape=shape, whiten=True, jitter=1e-4)
    losses = util.train(model, torch.optim.Adam(model.parameters(), lr=0.05), num_steps=150)
    assert np.mean(losses[-30:]) < np.mean(losses[:10])
    loc, spread = model(X)
    assert loc.shape == spread.shape == (*latent_shape, 18)
    if latent_shape:
        assert torch.equal(loc.argmax(0)[[0, 17]], torch.tensor([0, 2]))
    else:
        assert loc[-5] > loc[0]
    assert model.likelihood(loc, spread).shape == (18,)


def test_minibatches_and_new_data():
    X, Y, _ = data()
    model = models.VariationalSparseGP(
        X[:4], Y[0, :4], rbf(), X[::4].clone(), likelihoods.Gaussian(), num_data=12
    )
    svi = SVI(model.model, model.guide, ember.optim.Adam({"lr": 0.02}), TraceMeanField_ELBO())
    losses = []
    for step in range(120):
        chosen = slice(4 * (step % 3), 4 * (step % 3) + 4)
        model.set_data(X[chosen], Y[0, chosen])
        losses.append(svi.step())
    assert np.mean(losses[-12:]) < np.mean(losses[:12])
    with pytest.raises(ValueError, match="same number of points"):
        model.set_data(X[:3], Y[:, :4])


def test_training_runs_natively_and_finds_the_maximum(caplog):
    X, Y, _ = data(20)
    y = Y[0] + 0.2 * torch.randn(20, dtype=F64)
    model = models.GPRegression(X, y, kernels.RBF(1, *(variance(1.0),) * 2), variance(1.0))
    with caplog.at_level(logging.INFO):
        util.train(model, num_steps=1200)
    assert "eager" not in caplog.text
    loss = Trace_ELBO().differentiable_loss(model.model, model.guide)
    gradients = torch.autograd.grad(loss, list(model.parameters()))
    assert max(each.abs().item() for each in gradients) < 0.02
    adam = torch.optim.LBFGS(model.parameters())
    assert util.train(model, adam, num_steps=2)[-1] <= loss.item() + 1e-6


def test_hyperparameters_are_sampled_natively():
    X, Y, _ = data(15)
    kernel = kernels.RBF(1, variance(1.0), variance(1.0))
    kernel.lengthscale = PyroSample(dist.LogNormal(variance(0.0), variance(1.0)))
    model = models.GPRegression(X, Y[0], kernel, variance(0.2))
    mcmc = MCMC(NUTS(model.model), num_samples=300, warmup_steps=150, disable_progbar=True)
    with ember.settings.context(execution="native"):
        mcmc.run()
    draws = mcmc.get_samples()["kernel.lengthscale"]

    grid = torch.linspace(0.05, 6.0, 400, dtype=F64)
    log_joint = torch.tensor(
        [
            poutine.trace(poutine.condition(model.model, {"kernel.lengthscale": each}))
            .get_trace()
            .log_prob_sum()
            .item()
            for each in grid
        ]
    )
    weights = log_joint.softmax(0)
    assert draws.mean().item() == pytest.approx((weights * grid).sum().item(), abs=0.1)


def test_draws_of_one_function_agree_with_each_other():
    X, Y, new = data()
    model = models.GPRegression(X, Y, rbf(), variance(0.1))
    draws = []
    for _ in range(400):
        sampler = model.iter_sample()
        first, again, second = sampler(new[:1]), sampler(new[:1]), sampler(new[1:])
        torch.testing.assert_close(first, again, rtol=0, atol=0.02)
        draws.append(torch.cat([first, second], -1))
    draws = torch.stack(draws)
    loc, covariance = model(new, full_cov=True)
    torch.testing.assert_close(draws.mean(0), loc.detach(), rtol=0, atol=0.15)
    torch.testing.assert_close(draws[:, 0].T.cov(), covariance[0].detach(), rtol=0, atol=0.2)
    assert (model.iter_sample(noiseless=False)(new[:1]) - loc[:, :1]).abs().max() > 1e-3


def test_without_outputs_models_give_the_prior():
    X, _, new = data()
    loc, spread = models.GPRegression(X, None, rbf(), variance(0.1)).model()
    torch.testing.assert_close(
        (loc, spread), (torch.zeros(12, dtype=F64), torch.full((12,), 1.4, dtype=F64)), atol=1e-5, rtol=0
    )
    with pytest.raises(ValueError, match="without outputs"):
        models.GPRegression(X, None, rbf())(new)


def test_latent_inputs_are_found():
    angles = torch.linspace(0.0, 3.0, 16)
    Y = torch.stack([angles.sin(), angles.cos(), angles / 3.0]) + 0.02 * torch.randn(3, 16)
    start = torch.stack([Y[2] + 0.1 * torch.randn(16)], -1)
    base = models.SparseGPRegression(
        Parameter(start), Y, kernels.RBF(1), start[::4].clone(), torch.tensor(0.1)
    )
    model = models.GPLVM(base)
    assert torch.equal(model.X_loc, start) and base.X is not model.X
    losses = util.train(model, num_steps=300)
    assert losses[-1] < losses[0]
    order = torch.corrcoef(torch.stack([model.X_loc[:, 0].detach(), angles]))[0, 1].abs()
    assert order > 0.95
    assert model(Xnew=torch.zeros(2, 1))[0].shape == (3, 2)
    assert model.mode == "guide" and model.X.shape == (16, 1)
    with pytest.raises(ValueError, match="wrong shape"):
        models.GPLVM(models.GPRegression(angles, Y, kernels.RBF(1)))


def test_wrong_arguments_are_named():
    X, Y, new = data()
    with pytest.raises(ValueError, match="same number of points"):
        models.GPRegression(X, Y[:, :3], rbf())
    with pytest.raises(ValueError, match="a tensor or None"):
        models.GPRegression(X, [1.0] * 12, rbf())
    with pytest.raises(ValueError, match="features"):
        models.GPRegression(X, Y, rbf())(new[:, None])
    with pytest.raises(ValueError, match="sparse approximation"):
        models.SparseGPRegression(X, Y, rbf(), X, approx="PITC")
    wrong = models.VariationalGP(X, Y[0], rbf(), likelihoods.MultiClass(3))
    with pytest.raises(ValueError, match="one latent process for each class"):
        wrong.model()


def test_predictions_from_a_guide_of_hyperparameters():
    X, Y, _ = data(6)
    kernel = rbf()
    kernel.lengthscale = PyroSample(dist.LogNormal(variance(0.0), variance(1.0)))
    kernel.autoguide("lengthscale", dist.Normal)
    model = models.GPRegression(X, Y[0], kernel, variance(0.1))
    util.train(model, num_steps=50)
    drawn = Predictive(model.guide, num_samples=20)()["kernel.lengthscale"]
    assert drawn.shape == (20,) and drawn.std() > 0
