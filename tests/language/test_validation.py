"""Check the switches of validation, warnings about NaN, and site shapes (behaviours 9, 87-89, 109)."""

import subprocess
import sys
import warnings

import pytest
import torch

import ember
from ember import distributions as dist
from ember import poutine, settings
from ember.poutine.site_checks import check_site_shape

FLAGS = [
    "validate_distributions_torch",
    "validate_distributions_pyro",
    "validate_infer",
    "validate_poutine",
]


def flags():
    return [settings.get(name) for name in FLAGS]


def test_flags_are_set_together_and_default_to_debug():
    assert flags() == [__debug__] * 4
    ember.enable_validation(False)
    assert flags() == [False] * 4
    ember.enable_validation()
    assert flags() == [True] * 4


@pytest.mark.parametrize("flag, expected", [("-O", "[False, False, False]"), ("-B", "[True, True, True]")])
def test_defaults_follow_pythons_own_debug_flag(flag, expected):
    program = f"import ember; print([ember.settings.get(name) for name in {FLAGS[1:]}])"
    result = subprocess.run([sys.executable, flag, "-c", program], capture_output=True, text=True, check=True)
    assert result.stdout.strip() == expected


@pytest.mark.parametrize("inside", [True, False])
def test_context_restores_each_flag_also_after_an_exception(inside):
    mixed = [True, False, True, False]
    settings.set(**dict(zip(FLAGS, mixed, strict=True)))
    with ember.validation_enabled(inside):
        assert flags() == [inside] * 4
    assert flags() == mixed
    with pytest.raises(KeyError), ember.validation_enabled(inside):
        raise KeyError
    assert flags() == mixed


def test_flags_are_read_at_run_time():
    with ember.validation_enabled(False):
        dist.Normal(0.0, -1.0)
    with ember.validation_enabled(True), pytest.raises(ValueError, match="scale"):
        dist.Normal(0.0, -1.0)
    with poutine_validation(False):
        assert not poutine.is_validation_enabled()


def poutine_validation(value):
    return settings.context(validate_poutine=value)


@pytest.mark.parametrize(
    "log_factor, kind",
    [(float("nan"), "NaN"), (float("inf"), "+inf"), (float("-inf"), None), (1.0, None)],
)
def test_nan_and_infinity_in_a_density_warn_and_name_the_site(log_factor, kind):
    def model():
        ember.sample("bad_site", Weird(torch.tensor(log_factor)), obs=torch.tensor(0.0))

    trace = poutine.trace(model).get_trace()
    with warnings.catch_warnings(record=True) as caught:
        warnings.simplefilter("always")
        trace.log_prob_sum()
    texts = [str(each.message) for each in caught]
    if kind is None:
        assert texts == []
    else:
        assert len(texts) == 1
        assert texts[0].startswith(f"Encountered {kind}: log_prob_sum at site 'bad_site'")
        assert "Weird" in texts[0]


class Weird(dist.Normal):
    def __init__(self, log_density):
        super().__init__(torch.tensor(0.0), torch.tensor(1.0))
        self.log_density = log_density

    def log_prob(self, value):
        return self.log_density


def test_no_warning_without_validation():
    with ember.validation_enabled(False), warnings.catch_warnings():
        warnings.simplefilter("error")
        trace = poutine.trace(
            lambda: ember.sample("x", dist.Normal(0.0, 1.0), obs=torch.tensor(float("nan")))
        ).get_trace()
        assert torch.isnan(trace.log_prob_sum())


def test_nan_in_a_gradient_warns():
    x = torch.tensor(0.0, requires_grad=True)
    trace = poutine.trace(lambda: ember.factor("f", x.sqrt() * 1.0)).get_trace()
    total = trace.log_prob_sum() * float("nan")
    with pytest.warns(UserWarning, match="gradient of log_prob_sum at site 'f'"):
        total.backward()


@pytest.mark.parametrize(
    "obs, text",
    [
        (torch.tensor(-1.0), "-1"),
        (torch.ones(3, 2), "(3, 2)"),
        (torch.ones(4), "(4,)"),
    ],
)
def test_observation_outside_the_support_or_of_the_wrong_shape(obs, text):
    def model():
        with ember.plate("p", 3):
            ember.sample("the_site", dist.Gamma(torch.ones(3), 1.0), obs=obs)

    trace = poutine.trace(model).get_trace()
    with pytest.raises((ValueError, RuntimeError), match="log_prob at site 'the_site'") as error:
        trace.log_prob_sum()
    message = str(error.value)
    assert text in message and "batch_shape (3,)" in message and "p(size=3, dim=-1)" in message


def scored(model):
    trace = poutine.trace(model).get_trace()
    trace.compute_log_prob()
    return trace.nodes["x"]


def test_declared_shapes_pass():
    def model():
        with ember.plate("a", 3, dim=-1), ember.plate("b", 2, dim=-2):
            ember.sample("x", dist.Normal(torch.zeros(4), 1.0).to_event(1))

    check_site_shape(scored(model), 2)
    check_site_shape(scored(lambda: ember.sample("x", dist.Normal(0.0, 1.0))), 0)


def test_dims_of_enumeration_are_not_looked_at():
    site = scored(lambda: ember.sample("x", dist.Normal(torch.zeros(5, 1), 1.0)))
    check_site_shape(site, 1)
    check_site_shape(site, 0)


@pytest.mark.parametrize(
    "shape, plate_dim, fix",
    [
        ((4,), None, ".to_event(1), or declare the dimension by plate('...', 4, dim=-1)"),
        ((4, 3), -1, "declare the dimension by plate('...', 4, dim=-2)"),
        ((3, 4), -2, ".to_event(1), or declare the dimension by plate('...', 4, dim=-1)"),
    ],
)
def test_undeclared_batch_dims_are_refused_with_a_fix(shape, plate_dim, fix):
    def model():
        if plate_dim is None:
            ember.sample("x", dist.Normal(torch.zeros(shape), 1.0))
        else:
            with ember.plate("p", 3, dim=plate_dim):
                ember.sample("x", dist.Normal(torch.zeros(shape), 1.0))

    site = scored(model)
    with pytest.raises(ValueError, match="invalid log_prob shape at site 'x'") as error:
        check_site_shape(site, 3)
    message = str(error.value)
    assert fix in message and str(shape) in message
    assert ("to_event" in message) == (".to_event" in fix)


def test_plate_left_of_max_plate_nesting_is_refused():
    def model():
        with ember.plate("p", 3, dim=-2):
            ember.sample("x", dist.Normal(0.0, 1.0))

    with pytest.raises(ValueError, match="max_plate_nesting=1 is too small for plate 'p'") as error:
        check_site_shape(scored(model), 1)
    assert "max_plate_nesting=2" in str(error.value)
