"""Check running estimates, arrowhead matrices, averaging, leapfrog steps, labels and Matérn processes."""

import pytest
import torch

from ember.nn.matern import MaternKernel
from ember.ops import arrowhead, integrator, streaming
from ember.ops.dual_averaging import DualAveraging
from ember.ops.provenance import ProvenanceTensor, detach_provenance, get_provenance, track_provenance
from ember.ops.welford import WelfordArrowheadCovariance, WelfordCovariance

DOUBLE = torch.float64
close = torch.testing.assert_close


def randn(*shape):
    return torch.randn(shape, dtype=DOUBLE)


def test_welford_estimates_are_covariances():
    x = randn(20, 4)
    diagonal, full, arrow = (
        WelfordCovariance(),
        WelfordCovariance(diagonal=False),
        WelfordArrowheadCovariance(2),
    )
    for each in (diagonal, full, arrow):
        with pytest.raises(ValueError, match="two draws"):
            each.get_covariance()
        for row in x:
            each.update(row)
    expected = torch.cov(x.T)
    close(diagonal.get_covariance(regularize=False), expected.diagonal())
    close(full.get_covariance(regularize=False), expected)
    top, bottom = arrow.get_covariance(regularize=False)
    close(top, expected[:2])
    close(bottom, expected.diagonal()[2:])
    shrunk = expected * 20 / 25 + 1e-3 * 5 / 25 * torch.eye(4, dtype=DOUBLE)
    close(full.get_covariance(), shrunk)
    close(diagonal.get_covariance(), shrunk.diagonal())
    top, bottom = arrow.get_covariance()
    close(top, shrunk[:2])
    close(bottom, shrunk.diagonal()[2:])
    full.reset()
    assert full.n_samples == 0


@pytest.mark.parametrize("head", [0, 2, 5])
def test_arrowhead_algebra_is_that_of_dense_matrices(head):
    dense = torch.diag(torch.rand(5, dtype=DOUBLE) + 5.0)
    root = randn(5, head)
    dense[:head] += root.T[:, :5] if head else 0.0
    dense = 0.5 * (dense + dense.T)
    x = arrowhead.SymmArrowhead(dense[:head], dense.diagonal()[head:])

    def filled(u):
        return torch.cat(
            [u.top, torch.cat([torch.zeros(5 - head, head, dtype=DOUBLE), torch.diag(u.bottom_diag)], 1)]
        )

    u = arrowhead.sqrt(x)
    close(filled(u), filled(u).triu())
    close(filled(u) @ filled(u).T, dense)
    close(filled(arrowhead.triu_inverse(u)), torch.linalg.inv(filled(u)))
    close(arrowhead.triu_gram(u), filled(u).T @ filled(u))
    y = randn(5)
    close(arrowhead.triu_matvecmul(u, y), filled(u) @ y)
    close(arrowhead.triu_matvecmul(u, y, transpose=True), filled(u).T @ y)


def test_dual_averaging_finds_the_minimum():
    scheme = DualAveraging(prox_center=0.5, gamma=2.0)
    x = 0.0
    for _ in range(3000):
        scheme.step(2.0 * (x - 3.0) + torch.randn(()).item())
        x, average = scheme.get_state()
    assert abs(average - 3.0) < 0.1
    scheme.reset()
    assert scheme.get_state() == (0, 0)


def test_leapfrog_steps():
    def potential(z):
        return 0.5 * z["x"].square().sum() + 2.0 * z["y"] ** 2

    z, r = {"x": randn(2), "y": randn()}, {"x": randn(2), "y": randn()}
    start = potential(z) + sum(0.5 * v.square().sum() for v in r.values())
    end, momentum, gradient, energy = integrator.velocity_verlet(z, r, potential, lambda r: r, 0.01, 100)
    close(
        potential(end) + sum(0.5 * v.square().sum() for v in momentum.values()), start, rtol=1e-3, atol=1e-3
    )
    close(gradient["x"], end["x"])
    close(energy, potential(end))
    # A step of harmonic motion, and back again.
    back = integrator.velocity_verlet(
        end, {k: -v for k, v in momentum.items()}, potential, lambda r: r, 0.01, 100, z_grads=gradient
    )[0]
    close(back["x"], z["x"])
    with pytest.raises(ValueError, match="positive"):
        integrator.velocity_verlet(z, r, potential, lambda r: r, 0.01, 0)


def test_errors_in_potentials_can_be_divergences(monkeypatch):
    monkeypatch.setattr(integrator, "_handlers", dict(integrator._handlers))

    def potential(z):
        if z["x"] > 0:
            raise RuntimeError("my own trouble")
        return torch.linalg.cholesky(z["x"] * torch.eye(2, dtype=DOUBLE)).sum()

    gradient, energy = integrator.potential_grad(potential, {"x": torch.tensor(-1.0, dtype=DOUBLE)})
    assert energy.isnan() and gradient["x"].isnan()
    inside = {"x": torch.tensor(1.0, dtype=DOUBLE)}
    with pytest.raises(RuntimeError, match="my own trouble"):
        integrator.potential_grad(potential, inside)
    integrator.register_exception_handler("mine", lambda error: "trouble" in str(error))
    assert integrator.potential_grad(potential, inside)[1].isnan()
    with pytest.warns(UserWarning, match="mine"):
        integrator.register_exception_handler("mine", lambda error: False)


def test_streaming_statistics():
    x = randn(9, 3)

    def fill(make, rows):
        result = make()
        for row in rows:
            result.update(row)
        return result

    for make, key, expected in [
        (streaming.CountStats, "count", 9),
        (streaming.CountMeanStats, "mean", x.mean(0)),
        (streaming.CountMeanVarianceStats, "mean", x.mean(0)),
        (streaming.CountMeanVarianceStats, "variance", x.var(0)),
        (streaming.StackStats, "samples", x),
    ]:
        assert make().get() == {"count": 0}
        for result in (
            fill(make, x),
            fill(make, x[:4]).merge(fill(make, x[4:])),
            make().merge(fill(make, x)),
        ):
            close(result.get()[key], expected)
            assert result.get()["count"] == 9
    with pytest.raises(ValueError, match="kinds"):
        streaming.CountStats().merge(streaming.StackStats())


def test_streaming_statistics_of_dicts():
    def make():
        return streaming.StatsOfDict({"a": streaming.CountMeanStats})

    first, second = make(), make()
    first.update({"a": torch.tensor(1.0), "b": "x"})
    second.update({"a": torch.tensor(3.0)})
    merged = first.merge(second)
    assert merged.get()["a"]["mean"] == 2.0 and merged.get()["b"] == {"count": 1}
    assert set(first.get()) == {"a", "b"}


def test_labels_go_through_operations():
    x = track_provenance(torch.ones(2), frozenset({"x"}))
    y = track_provenance({"y": [torch.zeros(2)]}, frozenset({"y"}))["y"][0]
    assert (
        isinstance(x, ProvenanceTensor) and type(track_provenance(torch.ones(1), frozenset())) is torch.Tensor
    )
    assert get_provenance(x + 1) == {"x"}
    assert get_provenance(torch.stack([x, y]).sum()) == {"x", "y"}
    assert get_provenance([x, (y,), 3]) == {"x", "y"}
    assert get_provenance(torch.ones(1)) == frozenset()
    assert type(detach_provenance(x * y)) is torch.Tensor
    assert get_provenance(track_provenance(x, frozenset({"z"}))) == {"x", "z"}
    assert (x.split(1)[0] == 1).all()


@pytest.mark.parametrize("nu", [0.5, 1.5, 2.5])
def test_matern_processes_have_their_kernel(nu):
    length, scale = torch.tensor([1.0, 2.0]), torch.tensor([1.0, 0.5])
    kernel = MaternKernel(nu, 2, length, scale)
    stationary = kernel.stationary_covariance()
    for dt in (0.0, 0.3, 1.7):
        matrix, noise = kernel.transition_matrix_and_covariance(dt)
        r = (2 * nu) ** 0.5 * dt / length
        shape = {0.5: 1 + 0 * r, 1.5: 1 + r, 2.5: 1 + r + r**2 / 3}[nu]
        close((stationary @ matrix)[:, 0, 0], scale**2 * shape * (-r).exp(), rtol=1e-4, atol=1e-5)
        close(matrix.mT @ stationary @ matrix + noise, stationary, rtol=1e-4, atol=1e-4)
        if dt:
            assert (torch.linalg.eigvalsh(noise) > -1e-4).all()
    assert {"length_scale_unconstrained", "kernel_scale_unconstrained"} == {
        n for n, _ in kernel.named_parameters()
    }
    with pytest.raises(ValueError, match="nu"):
        MaternKernel(1.0)
    with pytest.raises(ValueError, match="shape"):
        MaternKernel(nu, 2, torch.ones(3))
