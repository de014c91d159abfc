"""Check filters of moving objects against joint Gaussians, and hashing."""

import pytest
import torch

import ember
import ember.distributions as dist
from ember.contrib.tracking.distributions import EKFDistribution
from ember.contrib.tracking.dynamic_models import NcpContinuous, NcpDiscrete, NcvContinuous, NcvDiscrete
from ember.contrib.tracking.extended_kalman_filter import EKFState
from ember.contrib.tracking.hashing import LSH, ApproxSet, merge_points
from ember.contrib.tracking.measurements import PositionMeasurement

F64 = torch.float64
EYE = torch.eye(2, dtype=F64)
MODELS = [
    NcpContinuous(2, torch.tensor(2.0, dtype=F64)),
    NcpDiscrete(2, torch.tensor(2.0, dtype=F64)),
    NcvContinuous(4, torch.tensor(2.0, dtype=F64)),
    NcvDiscrete(4, torch.tensor(2.0, dtype=F64)),
]


@pytest.mark.parametrize("model", MODELS, ids=lambda each: type(each).__name__)
def test_series_of_positions_are_jointly_gaussian(model):
    n, steps, dt = model.dimension, 4, 0.5
    start = torch.arange(1.0, n + 1.0, dtype=F64)
    P = 0.5 * torch.eye(n, dtype=F64)
    positions = EKFDistribution(start, P, model, 0.1 * EYE, steps, dt)
    F, Q = model.jacobian(dt), model.process_noise_cov(dt).detach()
    means, states = [], []
    for index in range(steps):
        if index:
            start, P = F @ start, F @ P @ F.T + Q
        means.append(start[:2])
        states.append(P)
    power = torch.linalg.matrix_power
    rows = [
        [
            (power(F, i - j) @ states[j] if i >= j else states[i] @ power(F.T, j - i))[:2, :2]
            for j in range(steps)
        ]
        for i in range(steps)
    ]
    covariance = torch.cat([torch.cat(row, -1) for row in rows]) + 0.1 * torch.eye(2 * steps, dtype=F64)
    joint = dist.MultivariateNormal(torch.cat(means), covariance)
    ember.set_rng_seed(0)
    value = torch.randn(3, steps, 2, dtype=F64)
    torch.testing.assert_close(positions.log_prob(value), joint.log_prob(value.flatten(1)))
    draws = positions.sample((3000,)).flatten(1)
    torch.testing.assert_close(draws.mean(0), joint.loc, atol=0.2, rtol=0)
    torch.testing.assert_close(draws.T.cov(), covariance, atol=0.6, rtol=0.1)
    final = positions.filter_states(value[0])[-1]
    cross = torch.cat([(power(F, steps - 1 - j) @ states[j])[:, :2] for j in range(steps)], -1)
    gain = cross @ covariance.inverse()
    torch.testing.assert_close(final.mean, states_mean := start + gain @ (value[0].flatten() - joint.loc))
    torch.testing.assert_close(final.cov, states[-1] - gain @ cross.T)
    assert states_mean.shape == (n,) and final.time == pytest.approx(1.5)


def test_beliefs_move_and_are_updated():
    model = NcvContinuous(4, 2.0)
    state = EKFState(model, torch.arange(4.0), torch.eye(4), time=1.0, frame_num=2)
    moved = state.predict(destination_time=1.5, destination_frame_num=3)
    assert torch.equal(moved.mean, torch.tensor([1.0, 2.5, 2.0, 3.0]))
    assert (moved.time, moved.frame_num, state.predict(dt=0.5).time) == (1.5, 3, 1.5)
    seen = PositionMeasurement(torch.tensor([1.0, 2.0]), 0.3 * torch.eye(2), time=1.5, frame_num=3)
    difference, covariance = moved.innovation(seen)
    assert torch.equal(difference, torch.tensor([0.0, -0.5]))
    updated, innovation = moved.update(seen)
    assert updated.cov.trace() < moved.cov.trace() and torch.equal(innovation[1], covariance)
    assert moved.log_likelihood_of_update(seen).item() == pytest.approx(-2.3812, abs=1e-3)
    assert (seen.dimension, model.dimension_pv, state.dimension) == (2, 4, 4)
    slow = EKFState(NcpContinuous(2, 1.0), torch.ones(2), torch.eye(2), time=0.0)
    assert torch.equal(slow.mean_pv, torch.tensor([1.0, 1.0, 0.0, 0.0]))
    assert torch.equal(slow.cov_pv.diagonal(), torch.tensor([1.0, 1.0, 0.0, 0.0]))


def test_mistakes_in_time_are_named():
    state = EKFState(NcvContinuous(4, 2.0), torch.arange(4.0), torch.eye(4), time=1.0)
    with pytest.raises(ValueError, match="another time"):
        state.update(PositionMeasurement(torch.zeros(2), torch.eye(2), time=1.5))
    with pytest.raises(ValueError, match="needs one time"):
        state.predict()
    with pytest.raises(ValueError, match="has no time"):
        EKFState(NcvContinuous(4, 2.0), torch.arange(4.0), torch.eye(4))
    with pytest.raises(ValueError, match="even dimension"):
        NcvContinuous(3, 2.0)


def test_neighbours_are_found():
    ember.set_rng_seed(0)
    points = 3.0 * torch.rand(60, 2)
    near = LSH(0.4)
    for i, point in enumerate(points):
        near.add(i, point)
    distances = torch.cdist(points, points)
    for i in range(60):
        found = near.nearby(i)
        assert {j for j in range(60) if j != i and distances[i, j] < 0.4} <= found
        assert all((points[i] - points[j]).abs().max() <= 0.8 for j in found)
    near.remove(0)
    assert all(0 not in near.nearby(i) for i in range(1, 60))
    near.add(1, torch.tensor([9.0, 9.0]))
    assert near.nearby(1) == set()
    with pytest.raises(KeyError):
        near.nearby(0)
    with pytest.raises(ValueError, match="radius"):
        LSH(0.0)


def test_boxes_hold_one_point_each():
    boxes = ApproxSet(1.0)
    points = torch.tensor([[0.0, 0.0], [0.2, 0.2], [0.9, 0.9], [3.0, 3.0]])
    assert [boxes.try_add(point) for point in points] == [True, False, True, True]


def test_close_points_are_merged():
    points = torch.tensor([[0.0, 0.0], [0.1, 0.0], [5.0, 5.0], [0.2, 0.1], [5.2, 5.0]])
    centres, groups = merge_points(points, 0.5)
    assert sorted(sorted(each) for each in groups) == [[0, 1, 3], [2, 4]]
    for centre, group in zip(centres, groups, strict=True):
        torch.testing.assert_close(centre, points[list(group)].mean(0))
    assert merge_points(points[:0], 0.5)[1] == []
    with pytest.raises(ValueError, match="wrong shape"):
        merge_points(points[0], 0.5)
