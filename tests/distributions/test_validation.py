"""Check when distributions are validated, by whose setting, and what errors say."""

import threading

import pytest
import torch

import ember.distributions as dist
from ember import settings
from ember.distributions import constraints
from ember.distributions.validation import satisfied


def bad():
    return dist.Normal(torch.zeros(3), torch.tensor([1.0, -2.0, float("nan")]))


def test_text_of_a_bad_parameter():
    with pytest.raises(ValueError) as caught:
        bad()
    text = str(caught.value)
    assert "Expected parameter scale" in text and "Normal" in text and "GreaterThan(lower_bound=0.0)" in text
    assert "-2 at index 1; nan at index 2" in text
    assert "test_validation.py" in text


def test_text_of_a_bad_value():
    with pytest.raises(ValueError) as caught:
        dist.Gamma(torch.ones(2, 2), 1.0).log_prob(torch.tensor([[1.0, -1.0], [-2.0, -3.0]]))
    text = str(caught.value)
    assert "Gamma" in text and "-1 at index (0, 1); -2 at index (1, 0); -3 at index (1, 1)" in text
    with pytest.raises(ValueError, match="and 7 more"):
        dist.Gamma(1.0, 1.0).log_prob(-torch.ones(10))


def test_scalar_parameters_are_checked():
    for wrong in (-1.0, 0.0, float("nan")):
        with pytest.raises(ValueError, match="scale"):
            dist.Normal(0.0, wrong)
    with pytest.raises(ValueError, match="loc"):
        dist.Normal(float("nan"), 1.0)
    with pytest.raises(ValueError, match="Tensor"):
        dist.Normal(0.0, 1.0).log_prob(0.5)


def test_own_choice_wins_over_the_setting():
    d = dist.Normal(0.0, 1.0, validate_args=False)
    with dist.validation_enabled(True):
        assert d.log_prob(torch.tensor(float("nan"))).isnan()
        assert d.expand((2,)).log_prob(torch.tensor(float("nan"))).isnan().all()
    with dist.validation_enabled(False):
        with pytest.raises(ValueError):
            dist.Normal(0.0, -1.0, validate_args=True)
        bad()
        strict = dist.Normal(0.0, 1.0, validate_args=True).expand((2,))
        with pytest.raises(ValueError):
            strict.log_prob(torch.tensor(float("nan")))


def test_the_setting_is_read_when_used():
    with dist.validation_enabled(False):
        d = dist.Gamma(1.0, 1.0).expand((2,))
    with pytest.raises(ValueError):
        d.log_prob(torch.tensor(-1.0))


def test_enable_validation_sets_the_setting():
    dist.enable_validation(False)
    assert not dist.is_validation_enabled() and not settings.get("validate_distributions_pyro")
    bad()
    dist.enable_validation(True)
    assert dist.is_validation_enabled()
    with pytest.raises(ValueError):
        bad()


def test_torch_has_its_own_flag():
    with settings.context(validate_distributions_torch=False):
        torch.distributions.Normal(0.0, torch.tensor(-1.0))
        with pytest.raises(ValueError):
            dist.Normal(0.0, -1.0)


def test_the_override_is_local_to_its_context():
    seen = []
    with dist.validation_enabled(False):
        thread = threading.Thread(target=lambda: seen.append(dist.Normal(0.0, 1.0)._validate_args))
        thread.start()
        thread.join()
        assert dist.Normal(0.0, 1.0)._validate_args is False
    assert seen == [True]


def test_shape_errors_name_both_shapes():
    with pytest.raises(ValueError, match=r"\(4,\)(.|\n)*\(3,\)"):
        dist.Normal(torch.zeros(4), 1.0).log_prob(torch.zeros(3))
    with pytest.raises(ValueError, match="event_shape"):
        dist.Dirichlet(torch.ones(3)).log_prob(torch.ones(2) / 2)


@pytest.mark.parametrize("make", [
    lambda: dist.Bernoulli(),
    lambda: dist.Bernoulli(0.5, logits=0.0),
    lambda: dist.Categorical(torch.tensor(0.5)),
    lambda: dist.Dirichlet(torch.tensor(0.5)),
    lambda: dist.Categorical(torch.tensor([0.5, -0.5])),
    lambda: dist.MultivariateNormal(torch.zeros(2)),
    lambda: dist.MultivariateNormal(torch.zeros(2), scale_tril=torch.ones(2)),
    lambda: dist.MultivariateStudentT(2.0, torch.zeros(2), torch.eye(3)),
    lambda: dist.LKJ(1),
    lambda: dist.Delta(torch.zeros(2), event_dim=2),
    lambda: dist.Delta(torch.zeros(2), torch.zeros(3)),
    lambda: dist.Delta(torch.zeros(2), torch.full((2,), float("nan"))),
    lambda: dist.Unit(torch.tensor(float("nan"))),
    lambda: dist.Independent(dist.Normal(0.0, 1.0), 1),
    lambda: dist.MaskedMixture(torch.ones(2), dist.Normal(0.0, 1.0), dist.Normal(0.0, 1.0)),
    lambda: dist.Empirical(torch.zeros(3, 2), torch.zeros(4)),
    lambda: dist.ZeroInflatedPoisson(1.0),
    lambda: dist.FoldedDistribution(dist.Normal(torch.zeros(2), 1.0).to_event(1)),
    lambda: dist.ProjectedNormal(torch.zeros(1)),
    lambda: dist.ExpandedDistribution(dist.Normal(torch.zeros(2), 1.0), (3,)),
    lambda: dist.ImproperUniform(dist.constraints.simplex, (), ()),
])  # fmt: skip
def test_bad_constructions_are_refused(make):
    with pytest.raises(ValueError):
        make()


@pytest.mark.parametrize(
    ("constraint", "good", "bad"),
    [
        (constraints.real, [0.0, -1e30, 1e30, float("inf")], [float("nan")]),
        (constraints.positive, [1e-30, 1e30], [0.0, -1.0, float("nan")]),
        (constraints.nonnegative, [0.0, 1e30], [-1e-30, float("nan")]),
        (constraints.unit_interval, [0.0, 0.5, 1.0], [-0.1, 1.1, float("nan")]),
        (constraints.boolean, [0.0, 1.0], [0.5, -1.0, float("nan")]),
        (constraints.independent(constraints.boolean, 1), [0.0, 1.0], [2.0]),
    ],
)
def test_many_numbers_are_checked_as_few_are(constraint, good, bad):
    value = torch.tensor(good).repeat(5000 // len(good)).reshape(len(good), -1).repeat(2, 1)
    assert value.numel() > 4096 and satisfied(constraint, value)
    for number in bad:
        spoilt = value.clone()
        spoilt[1, 7] = number
        assert not satisfied(constraint, spoilt)
