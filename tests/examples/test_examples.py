"""Run the examples of variational inference in small form, and (slow) in full beside what is known."""

import inspect

import pytest
import torch

import ember
from ember.examples import diabetes, digit_rows, digits, drivers, petals, schools_flow
from ember.infer.autoguide import AutoNormal

EXAMPLES = [diabetes, digit_rows, digits, drivers, petals, schools_flow]


@pytest.mark.parametrize("example", EXAMPLES, ids=lambda each: each.__name__.rpartition(".")[2])
def test_examples_are_short(example):
    assert len(inspect.getsource(example).splitlines()) < 150


def test_digits_in_small_form(tmp_path):
    images, labels = digits.load()
    vae, losses = digits.train(images[:300], epochs=8)
    assert losses[-1] < 0.8 * losses[0]
    paths = digits.plot(vae, images, labels, tmp_path)
    assert [path.name for path in paths] == ["reconstructions.png", "codes.png"]
    assert all(path.read_bytes().startswith(b"\x89PNG") and path.stat().st_size > 5000 for path in paths)


def test_digit_rows_in_small_form():
    images, _ = digits.load()
    dmm, losses = digit_rows.train(images[:300].reshape(-1, 8, 8), epochs=4, batch=50)
    assert losses[-1] < 0.75 * losses[0]
    drawn = digit_rows.draw(dmm, 3)
    assert drawn.shape == (3, 8, 8) and drawn.min() >= 0 and drawn.max() <= digits.LEVELS
    assert len(digit_rows.show(drawn[0]).splitlines()) == 8


def test_diabetes_in_small_form():
    x, y, names = diabetes.load()
    assert x.shape == (442, 10) and len(names) == 10
    model, guide, losses = diabetes.train(x, y, steps=150)
    assert sum(losses[-20:]) < sum(losses[:20])
    mean, _ = diabetes.exact(x, y, model.noise.item())
    bmi = names.index("bmi")
    assert guide.median()["linear.weight"][0, bmi].item() == pytest.approx(mean[bmi].item(), abs=0.15)


def test_drivers_in_small_form():
    y, covariates = drivers.load()
    assert y.shape == (192, 1) and covariates[:, 1].sum() == 23
    forecaster = drivers.fit(y[:180], covariates[:180], num_samples=100)
    draws = forecaster(y[:180], covariates, num_samples=100)
    assert draws.shape == (100, 12, 1)
    assert (draws.mean(0) - y[180:]).abs().mean() < 0.12
    assert forecaster.mcmc.get_samples()["effects"][:, 1].mean() < -0.05


def test_petals_in_small_form():
    flowers, species = petals.load()
    guide, losses = petals.train(flowers, steps=300)
    assert losses[-1] < losses[0]
    assert (guide.median(flowers)["which"] == species).double().mean() > 0.9


def test_schools_flow_in_small_form():
    untrained = schools_flow.train(schools_flow.flow_guide(), steps=1, particles=1)
    ember.clear_param_store()
    assert schools_flow.train(schools_flow.flow_guide(), steps=100, particles=5) > untrained


@pytest.mark.slow
def test_codes_of_digits_beat_linear_ones():
    images, labels = digits.load()
    vae, _ = digits.train(images)
    centred = images - images.mean(0)
    basis = torch.linalg.svd(centred, full_matrices=False)[2][:2]
    linear = (centred - centred @ basis.T @ basis).square().mean().sqrt()
    with torch.no_grad():
        error = (vae.reconstruct(images) - images).square().mean().sqrt()
        codes = vae.encode(images)
    assert error < 0.95 * linear
    # Neighbours in the map are of one digit, more often than with the two principal components.
    shares = []
    for points in (codes, centred @ basis.T):
        nearest = torch.cdist(points, points).fill_diagonal_(torch.inf).argmin(-1)
        shares.append((labels[nearest] == labels).double().mean().item())
    assert shares[0] > shares[1] and shares[0] > 0.6


@pytest.mark.slow
def test_diabetes_matches_the_exact_posterior():
    x, y, _ = diabetes.load()
    model, guide, _ = diabetes.train(x, y, steps=6000)
    mean, scale = diabetes.exact(x, y, model.noise.item())
    low, high = guide.quantiles([0.15865525, 0.84134475])["linear.weight"][:, 0]
    assert ((guide.median()["linear.weight"][0] - mean[:-1]).abs() < 0.5 * scale[:-1]).all()
    assert (((high - low) / 2 / scale[:-1] - 1).abs() < 0.35).all()
    # The noise that maximises the evidence is about the residuals' root mean square.
    residual = y - x @ mean[:-1].to(x)
    assert model.noise.item() == pytest.approx(residual.square().mean().sqrt().item(), rel=0.05)


@pytest.mark.slow
def test_a_flow_comes_closer_to_the_funnel():
    normal = schools_flow.train(AutoNormal(schools_flow.model), steps=1500)
    flow = schools_flow.train(schools_flow.flow_guide(), steps=1500)
    # The log evidence is -31.31, by quadrature over mean and spread.
    assert flow > normal + 2.0 and -32.6 < flow < -31.2
