"""Check chains of hidden states against dense marginals, Kalman smoothers, and sums over all paths."""

import itertools
import math

import pytest
import torch
from kalman import Chain, joint, kalman

import ember
import ember.distributions as dist
from ember import engine
from ember.engine.differentiation import value_and_grad
from ember.infer import MCMC, NUTS, SVI, Trace_ELBO
from ember.infer.autoguide import AutoNormal
from ember.infer.reparam import ConjugateReparam
from ember.optim import Adam

DOUBLE = torch.float64
close = torch.testing.assert_close
HIDDEN, OBSERVED = 2, 3


def randn(*shape):
    return torch.randn(shape, dtype=DOUBLE)


def covariance(size, *batch):
    root = randn(*batch, size, size)
    return root @ root.mT + torch.eye(size, dtype=DOUBLE)


def some_chain(*time):
    """Return random parameters, with a dim of time or without."""
    return Chain(
        m=randn(HIDDEN),
        P=covariance(HIDDEN),
        F=0.6 * randn(*time, HIDDEN, HIDDEN),
        q=randn(*time, HIDDEN),
        Q=covariance(HIDDEN, *time),
        H=randn(*time, HIDDEN, OBSERVED),
        r=randn(*time, OBSERVED),
        R=covariance(OBSERVED, *time),
    )


def parts(c):
    mvn = dist.MultivariateNormal
    return mvn(c.m, c.P), c.F, mvn(c.q, c.Q), c.H, mvn(c.r, c.R)


def gaussian(c, duration=None, **options):
    return dist.GaussianHMM(*parts(c), duration=duration, **options)


def dense(c, length):
    return dist.MultivariateNormal(*joint(c, length))


@pytest.mark.parametrize("time", [(), (5,)])
def test_gaussian_log_prob_is_that_of_the_dense_marginal(time):
    c = some_chain(*time)
    h = gaussian(c)
    assert h.batch_shape == () and h.event_shape == (time or (1,)) + (OBSERVED,)
    x = randn(4, 5, OBSERVED)
    close(h.log_prob(x), dense(c, 5).log_prob(x.flatten(-2)))
    if not time:
        for length in (1, 2, 7):
            x = randn(length, OBSERVED)
            close(h.log_prob(x), dense(c, length).log_prob(x.flatten()))


@pytest.mark.parametrize("time", [(), (200,)])
def test_gaussian_against_kalman_filter_and_smoother(time):
    c, x = some_chain(*time), randn(200, OBSERVED)
    h = gaussian(c)
    log_prob, mean, cov, means, covs = kalman(c, x)
    close(h.log_prob(x), log_prob)
    last = h.filter(x)
    close(last.mean, mean)
    close(last.covariance_matrix, cov)
    draws = h.rsample_posterior(x, (4000,))
    assert draws.shape == (4000, 200, HIDDEN)
    error = (draws.mean(0) - means) / (covs.diagonal(dim1=-2, dim2=-1) / 4000).sqrt()
    assert error.abs().max() < 5 and 0.9 < error.std() < 1.1
    ratio = draws.var(0) / covs.diagonal(dim1=-2, dim2=-1)
    assert (ratio - 1).abs().max() < 0.15


@pytest.mark.parametrize("noise", [1.0, 1e-4])
def test_gaussian_in_single_precision(noise):
    """Slow states are the difficulty: their precision is a small difference of large numbers."""
    c, x = some_chain(), randn(300, OBSERVED)
    c.F, c.Q = torch.eye(HIDDEN, dtype=DOUBLE), noise**2 * c.Q
    single = Chain(**{name: value.float() for name, value in vars(c).items()})
    h, exact = gaussian(single), gaussian(c)
    actual = h.log_prob(x.float())
    assert actual.dtype == torch.float32
    close(actual.double(), exact.log_prob(x), rtol=1e-5, atol=1e-2)
    last = h.filter(x.float())
    assert last.loc.dtype == torch.float32
    close(last.mean.double(), exact.filter(x).mean, rtol=1e-3, atol=1e-3)
    assert h.rsample_posterior(x.float()).dtype == gaussian(single, 4).rsample().dtype == torch.float32


def test_constant_scale_beside_a_mean_in_time_costs_one_step():
    c = some_chain()
    initial, f, q, h_matrix, _ = parts(c)
    observed = dist.Normal(randn(6, OBSERVED), torch.ones(OBSERVED, dtype=DOUBLE)).to_event(1)
    h = dist.GaussianHMM(initial, f, q, h_matrix, observed)
    elements = h._elements(randn(6, OBSERVED))
    assert elements.info_vec.shape == (6, 4) and elements.precision.numel() == 16


def test_diagonal_noise_is_a_covariance():
    c = some_chain()
    c.Q, c.R = (
        torch.diag(torch.rand(HIDDEN, dtype=DOUBLE) + 0.5),
        torch.diag(torch.rand(3, dtype=DOUBLE) + 0.5),
    )
    initial, f, _, h, _ = parts(c)
    lean = dist.GaussianHMM(
        initial,
        f,
        dist.Normal(c.q, c.Q.diagonal().sqrt()).to_event(1),
        h,
        dist.Normal(c.r, c.R.diagonal().sqrt()).to_event(1),
        duration=6,
    )
    x = randn(6, OBSERVED)
    close(lean.log_prob(x), dense(c, 6).log_prob(x.flatten()))
    close(lean.filter(x).mean, gaussian(c).filter(x).mean)
    y = lean.rsample((20_000,)).flatten(-2)
    close(torch.cov(y.T), joint(c, 6)[1], atol=0.5, rtol=0.05)


@pytest.mark.parametrize("time", [(), (5,)])
def test_draws_follow_the_dense_marginal(time):
    c = some_chain(*time)
    expected = dense(c, 5)
    spread = expected.variance.sqrt()
    for h in (gaussian(c, 5), dist.LinearHMM(*parts(c), duration=5)):
        y = h.rsample((40_000,)).flatten(-2)
        error = (y.mean(0) - expected.mean) / spread * 200
        assert error.abs().max() < 5
        difference = (torch.cov(y.T) - expected.covariance_matrix) / spread / spread[:, None]
        assert difference.abs().max() < 0.05


@pytest.mark.parametrize("time", [(), (6,)])
def test_prefix_condition_is_the_conditional_density(time):
    c, x = some_chain(*time), randn(4, 6, OBSERVED)
    gamma = dist.Gamma(torch.tensor(3.0, dtype=DOUBLE), 2.0)
    for h in (gaussian(c, 6), dist.GammaGaussianHMM(gamma, *parts(c), duration=6)):
        rest = h.prefix_condition(x[:, :2])
        assert rest.batch_shape == (4,) and rest.event_shape == (4, OBSERVED) and rest.duration == 4
        begin = h._steps(0, 2)
        close(begin.log_prob(x[:, :2]) + rest.log_prob(x[:, 2:]), h.log_prob(x))
        assert rest.rsample((3,)).shape == (3, 4, 4, OBSERVED)
        again = rest.prefix_condition(x[:, 2:3])
        close(again.log_prob(x[:, 3:]), h.prefix_condition(x[:, :3]).log_prob(x[:, 3:]))
    whole = dense(c, 6)
    k = 2 * OBSERVED
    gain = torch.linalg.solve(whole.covariance_matrix[:k, :k], whole.covariance_matrix[:k, k:])
    expected = whole.mean[k:] + (x[0, :2].flatten() - whole.mean[:k]) @ gain
    forecast = gaussian(c, 6).prefix_condition(x[0, :2]).rsample((20_000,)).flatten(-2)
    error = (forecast.mean(0) - expected) / forecast.std(0) * 20_000**0.5
    assert error.abs().max() < 5


@pytest.mark.parametrize("time", [(), (5,)])
@pytest.mark.parametrize("diagonal", [False, True])
def test_conjugate_update_is_the_product(time, diagonal):
    length = 5
    c, loc = some_chain(*time), randn(length, OBSERVED)
    root = covariance(OBSERVED, length)
    other = dist.MultivariateNormal(loc, root).to_event(1)
    if diagonal:
        other = dist.Normal(loc, root.diagonal(dim1=-2, dim2=-1)).to_event(2)
        root = torch.diag_embed(root.diagonal(dim1=-2, dim2=-1).square())
    before = gaussian(c)
    updated, log_normalizer = before.conjugate_update(other)
    x = randn(4, length, OBSERVED)
    close(updated.log_prob(x) + log_normalizer, before.log_prob(x) + other.log_prob(x))
    assert updated.event_shape == (length, OBSERVED) and updated.batch_shape == log_normalizer.shape == ()
    # The product of two normal densities, written out.
    prior, likelihood = dense(c, length), torch.block_diag(*root).inverse()
    precision = prior.precision_matrix + likelihood
    mean = precision.inverse() @ (prior.precision_matrix @ prior.loc + likelihood @ loc.flatten())
    product = dist.MultivariateNormal(mean, precision_matrix=precision)
    close(updated.log_prob(x), product.log_prob(x.flatten(1)))
    number = 50_000
    y = updated.rsample((number,)).flatten(1)
    close(y.mean(0), mean, atol=5 * float(product.variance.max() / number) ** 0.5, rtol=0)
    close(y.mT.cov(), product.covariance_matrix, atol=0.04 * float(product.variance.max()), rtol=0)
    rest = updated.prefix_condition(x[:, :2])
    first = dist.MultivariateNormal(
        mean[: 2 * OBSERVED], product.covariance_matrix[: 2 * OBSERVED, : 2 * OBSERVED]
    )
    close(rest.log_prob(x[:, 2:]), product.log_prob(x.flatten(1)) - first.log_prob(x[:, :2].flatten(1)))
    # Twice over, as the product is of the same kind.
    twice, more = updated.conjugate_update(other)
    close(twice.log_prob(x) + more + log_normalizer, before.log_prob(x) + 2 * other.log_prob(x))


def test_conjugate_update_of_batches_and_in_a_strategy():
    c, loc = some_chain(), randn(4, OBSERVED)
    other = dist.Normal(loc.expand(3, 4, OBSERVED), 1.0).to_event(2)
    updated, log_normalizer = gaussian(c, duration=4).conjugate_update(other)
    assert updated.batch_shape == log_normalizer.shape == (3,)
    assert updated.rsample((2,)).shape == (2, 3, 4, OBSERVED)
    with pytest.raises(ValueError, match="density of its observations"):
        gaussian(c, duration=4).conjugate_update(dist.Normal(loc, 1.0).to_event(1))

    def model():
        return ember.sample("x", gaussian(c, duration=4))

    guess = dist.Normal(loc, 1.0).to_event(2)
    strategy = ConjugateReparam(guess)
    trace = ember.poutine.trace(ember.poutine.reparam(model, {"x": strategy})).get_trace()
    assert trace.nodes["x_updated"]["fn"].log_prob(trace.nodes["_RETURN"]["value"]).shape == ()
    close(trace.log_prob_sum(), gaussian(c).log_prob(trace.nodes["_RETURN"]["value"]))


def test_batches_broadcast():
    mvn = dist.MultivariateNormal
    initial, f = mvn(randn(4, 1, HIDDEN), covariance(HIDDEN)), 0.5 * randn(3, 1, HIDDEN, HIDDEN)
    rest = mvn(randn(5, HIDDEN), covariance(HIDDEN)), randn(HIDDEN, 1), mvn(randn(1), covariance(1))
    h = dist.GaussianHMM(initial, f, *rest)
    assert h.batch_shape == (4, 3) and h.event_shape == (5, 1)
    x = randn(2, 1, 1, 5, 1)
    both = h.log_prob(x)
    assert both.shape == (2, 4, 3)
    for i, j in itertools.product(range(4), range(3)):
        one = dist.GaussianHMM(mvn(initial.loc[i, 0], initial.covariance_matrix[i, 0]), f[j], *rest)
        assert one.batch_shape == ()
        close(one.log_prob(x[:, 0, 0]), both[:, i, j])
    assert h.rsample((2,)).shape == (2, 4, 3, 5, 1)
    assert h.filter(x).batch_shape == (2, 4, 3)
    assert h.rsample_posterior(x[0]).shape == (4, 3, 5, HIDDEN)
    wide = h.expand((2, 4, 3))
    assert wide.rsample().shape == (2, 4, 3, 5, 1)
    close(wide.log_prob(x[0]), h.log_prob(x[0]).expand(2, 4, 3))


@pytest.mark.parametrize("time", [(), (4,)])
def test_gradient_of_log_prob(time):
    c, x = some_chain(*time), randn(4, OBSERVED)
    names = ("m", "F", "q", "H", "r")

    def density(*values):
        changed = Chain(**{**vars(c), **dict(zip(names, values, strict=True))})
        return gaussian(changed, validate_args=False).log_prob(x)

    assert torch.autograd.gradcheck(density, [getattr(c, n).requires_grad_() for n in names])

    def spread(q, r, rate):
        scaled = Chain(**{**vars(c), "Q": q * c.Q, "R": r * c.R})
        gamma = dist.Gamma(2.0 * rate, rate)
        return dist.GammaGaussianHMM(gamma, *parts(scaled), validate_args=False).log_prob(x)

    assert torch.autograd.gradcheck(
        spread, [torch.tensor(v, dtype=DOUBLE).requires_grad_() for v in (0.7, 1.3, 2.0)]
    )


@pytest.mark.parametrize("time", [(), (5,)])
def test_gamma_gaussian_is_a_multivariate_t(time):
    c, x = some_chain(*time), randn(4, 5, OBSERVED)
    gamma = dist.Gamma(torch.tensor(3.5, dtype=DOUBLE), 2.0)
    h = dist.GammaGaussianHMM(gamma, *parts(c), duration=5)
    mean, cov = joint(c, 5)
    scale = cov * 2.0 / 3.5
    expected = dist.MultivariateStudentT(7.0, mean, torch.linalg.cholesky(scale))
    close(h.log_prob(x), expected.log_prob(x.flatten(-2)))
    y = h.rsample((40_000,)).flatten(-2)
    spread = expected.variance.sqrt()
    assert ((y.mean(0) - mean) / spread * 200).abs().max() < 5
    difference = (torch.cov(y.T) - scale * 7.0 / 5.0) / spread / spread[:, None]
    assert difference.abs().max() < 0.15


def test_gamma_gaussian_filter_and_posterior():
    c, x = some_chain(), randn(5, OBSERVED)
    gamma = dist.Gamma(torch.tensor(3.5, dtype=DOUBLE), 2.0)
    h = dist.GammaGaussianHMM(gamma, *parts(c), duration=5)
    scale, state = h.filter(x)
    mean, cov = joint(c, 5)
    error = x.flatten() - mean
    close(scale.concentration, torch.tensor(3.5 + 0.5 * 15, dtype=DOUBLE))
    close(scale.rate, 2.0 + 0.5 * error @ torch.linalg.solve(cov, error))
    at_one = gaussian(c).filter(x)
    close(state.mean, at_one.mean)
    close(state.covariance_matrix, at_one.covariance_matrix)
    s, z = h.rsample_posterior(x, (20_000,))
    assert s.shape == (20_000,) and z.shape == (20_000, 5, HIDDEN)
    close(s.mean(), scale.mean, rtol=0.02, atol=0.0)
    expected = at_one.covariance_matrix.diagonal() * scale.rate / (scale.concentration - 1)
    close(z[:, -1].var(0), expected, rtol=0.06, atol=0.0)


@pytest.mark.parametrize("time", [(), (4,)])
@pytest.mark.parametrize("forbidden", [False, True])
def test_discrete_against_the_sum_over_paths(time, forbidden):
    k, length = 3, 4
    initial, transition, loc = randn(k), randn(*time, k, k), randn(*time, k)
    if forbidden:
        transition[..., 2, 0] = -torch.inf
        transition[..., 1, :2] = -torch.inf
    transition.requires_grad_()
    h = dist.DiscreteHMM(initial, transition, dist.Normal(loc, 1.0))
    x = randn(length)
    steps = transition.log_softmax(-1).expand(length, k, k)
    emission = dist.Normal(loc, 1.0).log_prob(x[:, None]).expand(length, k)
    paths: dict[int, list[torch.Tensor]] = {state: [] for state in range(k)}
    for z in itertools.product(range(k), repeat=length + 1):
        terms = [steps[t, z[t], z[t + 1]] + emission[t, z[t + 1]] for t in range(length)]
        if all(torch.isfinite(term) for term in terms):
            paths[z[-1]].append(initial.log_softmax(-1)[z[0]] + sum(terms))
    last = torch.stack([torch.stack(paths[z]).logsumexp(0) for z in range(k)])
    close(h.log_prob(x), last.logsumexp(0))
    close(h.filter(x).probs, last.softmax(0))
    allowed = torch.isfinite(transition.detach())
    got, expected = (torch.autograd.grad(v, transition)[0] for v in (h.log_prob(x), last.logsumexp(0)))
    close(got[allowed], expected[allowed])
    assert torch.isfinite(got).all()


@pytest.mark.parametrize("states", [2, 12])  # multiplied as logarithms, and as scaled matrices
def test_discrete_with_states_that_exclude_each_other(states):
    # One regime fits worse by 80,000 in the first half, the other in the second; none can be left.
    apart = torch.full((states, states), -torch.inf)
    apart.fill_diagonal_(0.0)
    loc = torch.linspace(-50.0, 50.0, states)
    x = torch.cat([torch.full((20,), -40.0), torch.full((30,), 40.0)])
    emissions = dist.Normal(loc, 1.0).log_prob(x[:, None]).requires_grad_()
    scored = emissions.sum(0) - math.log(states)
    h = dist.DiscreteHMM(torch.zeros(states), apart, dist.Normal(loc, 1.0))
    close(h.log_prob(x), scored.logsumexp(0))
    close(h.smooth(x).probs, torch.autograd.grad(scored.logsumexp(0), emissions)[0])


def test_discrete_with_transitions_that_underflow():
    rare = torch.tensor([[0.0, -900.0], [-900.0, 0.0]])
    emissions = dist.Normal(torch.tensor([-50.0, 50.0]), 1.0)
    h = dist.DiscreteHMM(torch.zeros(2), rare, emissions)
    x = torch.cat([torch.full((30,), -40.0), torch.full((31,), 40.0)])
    scores = emissions.log_prob(x[:, None])
    close(h.log_prob(x), scores[:30, 0].sum() + scores[30:, 1].sum() - 900.0 + math.log(0.5))


def paths_of(h, x):
    """Return (paths, their posterior probabilities), by force; h has batch shape () and no dim of time."""
    k, length = h.initial_logits.shape[-1], x.shape[-h.event_dim]
    paths = torch.cartesian_prod(*[torch.arange(k)] * (length + 1))
    scores = h.observation_dist.log_prob(x[:, None])
    steps = h.transition_logits.expand(length, k, k)
    total = h.initial_logits[paths[:, 0]]
    for t in range(length):
        total = total + steps[t, paths[:, t], paths[:, t + 1]] + scores[t, paths[:, t + 1]]
    return paths[:, 1:], total.softmax(0)


@pytest.mark.parametrize("length", [1, 2, 5, 6])
@pytest.mark.parametrize("forbidden", [False, True])
def test_discrete_smoothing(length, forbidden):
    k, number = 3, 20_000
    transition = randn(k, k)
    if forbidden:
        transition[2, 0] = transition[1, 1] = -torch.inf
    h = dist.DiscreteHMM(randn(k), transition.requires_grad_(), dist.Normal(randn(k), 1.0), duration=length)
    x = randn(length)
    paths, probs = paths_of(h, x)
    expected = torch.stack([(paths == state).to(DOUBLE).mT @ probs for state in range(k)], -1)
    smoothed = h.smooth(x)
    assert smoothed.batch_shape == (length,)
    close(smoothed.probs, expected)
    close(smoothed.probs[-1], h.filter(x).probs)
    got, wanted = (
        torch.autograd.grad(p[0, 0], transition, retain_graph=True)[0] for p in (smoothed.probs, expected)
    )
    allowed = torch.isfinite(transition.detach())
    close(got[allowed], wanted[allowed])
    with torch.no_grad():
        close(h.smooth(x).probs, expected)
    assert (
        not dist.DiscreteHMM(torch.zeros(k), torch.zeros(k, k), dist.Normal(torch.zeros(k), 1.0))
        .smooth(x.float())
        .probs.requires_grad
    )
    drawn = h.sample_posterior(x, (number,))
    assert drawn.shape == (number, length) and not drawn.is_floating_point()
    digits = k ** torch.arange(length)
    joint_of = torch.zeros(k**length, dtype=DOUBLE).index_add(0, (paths * digits).sum(-1), probs.detach())
    found = torch.bincount((drawn * digits).sum(-1), minlength=k**length) / number
    assert not found[joint_of == 0].any()
    error = (found - joint_of) / (joint_of * (1 - joint_of) / number).sqrt().clamp(min=1 / number)
    assert error.abs().max() < 5


def test_discrete_smoothing_of_batches():
    h = dist.DiscreteHMM(randn(4, 1, 3), randn(3, 3), dist.Normal(randn(7, 3, 2), 1.0).to_event(1))
    x = randn(5, 7, 2)
    assert h.batch_shape == (4, 1) and h.smooth(x).batch_shape == (4, 5, 7)
    assert h.sample_posterior(x, (6,)).shape == (6, 4, 5, 7)
    single = dist.DiscreteHMM(h.initial_logits[2, 0], h.transition_logits, h.observation_dist)
    close(h.smooth(x).probs[2, 3], single.smooth(x[3]).probs)
    with pytest.raises(ValueError, match="event"):
        h.smooth(randn(5, 6, 2))


def test_discrete_draws_of_long_chains_stay_possible():
    cycle = torch.full((3, 3), -torch.inf)
    cycle[[0, 1, 2], [1, 2, 0]] = 0.0
    h = dist.DiscreteHMM(torch.zeros(3), cycle, dist.Normal(torch.arange(3.0), 3.0), duration=2001)
    states = h.sample_posterior(h.sample())
    assert torch.equal((states[1:] - states[:-1]) % 3, torch.ones(2000, dtype=torch.long))


def test_discrete_prefix_and_draws():
    k = 3
    initial, transition = randn(k), randn(5, k, k)
    means = 4.0 * torch.arange(3.0, dtype=DOUBLE).expand(5, k)
    h = dist.DiscreteHMM(initial, transition, dist.Normal(means, 0.01))
    x = randn(2, 5)
    rest = h.prefix_condition(x[:, :2])
    assert rest.batch_shape == (2,) and rest.duration == 3
    close(h._steps(0, 2).log_prob(x[:, :2]) + rest.log_prob(x[:, 2:]), h.log_prob(x))
    y = h.sample((20_000,))
    assert y.shape == (20_000, 5)
    states = (y / 4.0).round().long()
    probs = initial.softmax(-1)
    steps = transition.softmax(-1)
    for t in range(5):
        probs = probs @ steps[t]
        close(torch.bincount(states[:, t], minlength=3) / 20_000, probs, atol=0.02, rtol=0, check_dtype=False)
    pairs = torch.bincount(3 * states[:, 3] + states[:, 4], minlength=9).reshape(3, 3).double()
    close(pairs / pairs.sum(-1, keepdim=True), steps[4], atol=0.05, rtol=0)


def test_discrete_observes_vectors_and_categories():
    vectors = dist.Normal(randn(7, 3, 2), 1.0).to_event(1)
    h = dist.DiscreteHMM(torch.zeros(4, 3), torch.zeros(3, 3), vectors)
    assert h.batch_shape == (4,) and h.event_shape == (7, 2)
    assert h.sample((2,)).shape == (2, 4, 7, 2)
    assert h.log_prob(randn(7, 2)).shape == (4,)
    categories = dist.DiscreteHMM(
        torch.zeros(3), torch.zeros(3, 3), dist.Categorical(torch.ones(3, 4)), duration=6
    )
    y = categories.sample((50,))
    assert y.shape == (50, 6) and categories.support.check(y).all()
    close(categories.log_prob(y), torch.full((50,), 6 * torch.tensor(0.25).log().item()))


def test_random_field_is_normalised_over_observations_and_states():
    mvn = dist.MultivariateNormal
    field = dist.GaussianMRF(
        mvn(randn(2), covariance(2)), mvn(randn(4), covariance(4)), mvn(randn(3), covariance(3))
    )
    assert field.event_shape == (1, 1)
    grid = torch.linspace(-40.0, 40.0, 2001, dtype=DOUBLE)
    close(torch.trapezoid(field.log_prob(grid[:, None, None]).exp(), grid), torch.tensor(1.0, dtype=DOUBLE))
    # Over two steps, the density is that of all variables jointly, with the states integrated out.
    x = randn(2, 1)
    # Variables z0, z1, x1, z2, x2; then the observations are moved to the right.
    observed = field._obs.event_pad(left=2, right=3) + field._obs.event_pad(left=5)
    joint_factor = (
        field._init.event_pad(right=6)
        + field._trans.event_pad(right=4)
        + field._trans.event_pad(left=2, right=2)
        + observed.event_permute(torch.tensor([0, 1, 2, 3, 5, 6, 4, 7]))
    )
    expected = joint_factor.condition(x.flatten()).event_logsumexp() - joint_factor.event_logsumexp()
    close(field.log_prob(x), expected)
    with pytest.raises(ValueError, match="fit together"):
        dist.GaussianMRF(
            mvn(randn(2), covariance(2)), mvn(randn(2), covariance(2)), mvn(randn(3), covariance(3))
        )


def test_independent_chains_are_a_product():
    mvn = dist.MultivariateNormal
    base = dist.GaussianHMM(
        mvn(randn(3, 2), covariance(2)),
        0.5 * randn(2, 2),
        mvn(randn(2), covariance(2)),
        randn(2, 1),
        mvn(randn(1), covariance(1)),
        duration=6,
    )
    h = dist.IndependentHMM(base)
    assert h.batch_shape == () and h.event_shape == (6, 3) and h.duration == 6
    x = h.rsample((4,))
    assert x.shape == (4, 6, 3)
    expected = base.log_prob(x.mT.unsqueeze(-1)).sum(-1)
    close(h.log_prob(x), expected)
    assert h.expand((5,)).rsample((2,)).shape == (2, 5, 6, 3)
    rest = h.prefix_condition(x[:, :2])
    begin = dist.IndependentHMM(base._steps(0, 2))
    close(begin.log_prob(x[:, :2]) + rest.log_prob(x[:, 2:]), expected)
    with pytest.raises(ValueError, match="univariate"):
        dist.IndependentHMM(dist.Normal(0.0, 1.0))


def test_linear_chain_moves_transforms_outside():
    noise = dist.StudentT(3.0, torch.zeros(2), 1.0).to_event(1)
    observed = dist.LogNormal(torch.zeros(3), 1.0).to_event(1)
    h = dist.LinearHMM(noise, torch.eye(2), noise, torch.ones(2, 3), observed, duration=5)
    assert h.event_shape == (5, 3) and h.has_rsample
    (transform,) = h.transforms
    assert isinstance(transform, torch.distributions.transforms.ExpTransform)
    y = h.sample((4,))
    assert y.shape == (4, 5, 3) and h.support.check(y).all()
    assert h.expand((2,)).rsample().shape == (2, 5, 3)
    with pytest.raises(NotImplementedError, match="LinearHMMReparam"):
        h.log_prob(y)


def test_misuse_is_refused():
    c = some_chain()
    h = gaussian(c)
    with pytest.raises(ValueError, match="duration"):
        h.rsample()
    with pytest.raises(ValueError, match="duration"):
        h.prefix_condition(randn(3, OBSERVED))
    with pytest.raises(ValueError, match="event_shape"):
        h.log_prob(randn(4, OBSERVED + 1))
    with pytest.raises(ValueError, match="event_shape"):
        gaussian(c, 6).log_prob(randn(5, OBSERVED))
    for length in (6, 7):
        with pytest.raises(ValueError, match="prefix"):
            gaussian(c, 6).prefix_condition(randn(length, OBSERVED))
    with pytest.raises(ValueError, match="duration"):
        gaussian(some_chain(4), 5)
    with pytest.raises(ValueError, match="positive int"):
        gaussian(c, 0)
    initial, f, q, h_matrix, r = parts(c)
    with pytest.raises(ValueError, match=r"observation_matrix.shape"):
        dist.GaussianHMM(initial, f, q, h_matrix.mT, r)
    with pytest.raises(ValueError, match="LinearHMM"):
        dist.GaussianHMM(initial, f, dist.StudentT(3.0, torch.zeros(2), 1.0).to_event(1), h_matrix, r)
    with pytest.raises(ValueError, match="Gamma"):
        dist.GammaGaussianHMM(dist.Normal(0.0, 1.0), *parts(c))
    with pytest.raises(ValueError, match="number of states"):
        dist.DiscreteHMM(torch.zeros(2), torch.zeros(3, 3), dist.Normal(torch.zeros(3), 1.0))
    with pytest.raises(ValueError, match="broadcast"):
        h.expand((2,)).expand((3,))


def state_space_model(y):
    spread = ember.sample("spread", dist.LogNormal(-2.0, 1.0))
    noise = ember.sample("noise", dist.LogNormal(-1.0, 1.0))
    keep = ember.sample("keep", dist.Beta(5.0, 1.0))
    one = torch.ones_like(keep)
    f = torch.stack([torch.stack([keep, 0 * one]), torch.stack([one, 0.9 * one])])
    chain = dist.GaussianHMM(
        dist.Normal(torch.zeros(2), 1.0).to_event(1),
        f,
        dist.Normal(torch.zeros(2), spread.expand(2)).to_event(1),
        torch.ones(2, 1),
        dist.Normal(torch.zeros(1), noise.unsqueeze(-1)).to_event(1),
        duration=len(y),
    )
    ember.sample("y", chain, obs=y)


def densities(time):
    """Yield functions of a vector of three numbers that score sequences."""
    c, x = some_chain(*time), randn(9, OBSERVED)
    gamma = torch.tensor(3.5, dtype=DOUBLE)

    def scaled(z):
        return Chain(**{**vars(c), "F": z[0] * c.F, "Q": z[1].exp() * c.Q, "r": c.r + z[2]})

    yield lambda z: gaussian(scaled(z), validate_args=False).log_prob(x)
    yield lambda z: dist.GammaGaussianHMM(
        dist.Gamma(gamma, 2.0), *parts(scaled(z)), validate_args=False
    ).log_prob(x)
    logits, loc = randn(*time, 3, 3), randn(*time, 3)
    yield lambda z: dist.DiscreteHMM(
        z, logits * z[0], dist.Normal(loc * z[1], z[2].exp()), validate_args=False
    ).log_prob(x[:, 0])


@pytest.mark.parametrize("time", [(), (9,)])
def test_machine_code_agrees_with_eager(time):
    z = torch.tensor([0.8, -0.3, 0.4], dtype=DOUBLE)
    for density in densities(time):
        with dist.validation_enabled(False):
            function = value_and_grad(density)
            compiled = engine.compile(engine.capture(function, z))
            close(compiled(z), function(z))


def test_nuts_samples_a_state_space_model_natively():
    y = torch.randn(50, 1).cumsum(0) * 0.1
    with ember.settings.context(execution="native"):
        mcmc = MCMC(NUTS(state_space_model), 60, warmup_steps=60, disable_progbar=True)
        mcmc.run(y)
    assert all(torch.isfinite(v).all() for v in mcmc.get_samples().values())


def test_svi_fits_a_state_space_model_natively():
    y = torch.randn(50, 1).cumsum(0) * 0.1
    guide = AutoNormal(state_space_model)
    svi = SVI(state_space_model, guide, Adam({"lr": 0.05}), Trace_ELBO(), execution="native")
    losses = svi.run(300, y, disable_progbar=True).losses
    assert torch.isfinite(losses).all() and losses[-50:].mean() < losses[:50].mean() - 5


def test_posterior_draws_compile():
    x, length = randn(6), 6
    discrete = dist.DiscreteHMM(randn(3), randn(3, 3), dist.Normal(randn(3), 1.0), duration=length)
    chain = gaussian(some_chain(), duration=length)
    y = chain.sample()

    def draw(x, y):
        with dist.validation_enabled(False):
            return (
                discrete.sample_posterior(x, (4000,)),
                discrete.smooth(x).probs,
                chain.rsample_posterior(y, (4000,)),
            )

    key = engine.random.key(3)
    program = engine.capture(draw, x, y, key=key)
    states, probs, smoothed = engine.compile(program)(x, y, key)
    close(probs, discrete.smooth(x).probs)
    share = torch.stack([(states == state).to(DOUBLE).mean(0) for state in range(3)], -1)
    close(share, probs, atol=5 * 0.5 / 4000**0.5, rtol=0)
    expected = chain.rsample_posterior(y, (20_000,))
    close(smoothed.mean(0), expected.mean(0), atol=6 * float(expected.std(0).max()) / 4000**0.5, rtol=0)
    close(smoothed.std(0), expected.std(0), rtol=0.1, atol=0)
