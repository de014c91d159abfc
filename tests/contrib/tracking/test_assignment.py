"""Check marginals of assignments against sums over all configurations."""

import itertools

import pytest
import torch

import ember
from ember.contrib.tracking.assignment import (
    MarginalAssignment,
    MarginalAssignmentPersistent,
    MarginalAssignmentSparse,
    compute_marginals,
    compute_marginals_bp,
    compute_marginals_persistent,
    compute_marginals_persistent_bp,
)

F64 = torch.float64


def logits(*shape):
    ember.set_rng_seed(len(shape))
    return torch.randn(*shape, dtype=F64)


def brute_force(exists_logits, assign_logits, exclusive):
    """Return marginal probabilities, one configuration after another."""
    frames, detections, objects = assign_logits.shape
    total = 0.0
    exists = torch.zeros(objects, dtype=F64)
    assign = torch.zeros(frames, detections, objects + 1, dtype=F64)
    for present in itertools.product([0, 1], repeat=objects):
        for chosen in itertools.product(range(objects + 1), repeat=frames * detections):
            table = torch.tensor(chosen).reshape(frames, detections)
            taken = [[c for c in row if c < objects] for row in table.tolist()]
            if not all(present[c] for row in taken for c in row):
                continue
            if exclusive and any(len(set(row)) < len(row) for row in taken):
                continue
            weight = sum(present[i] * exists_logits[i] for i in range(objects))
            for t, j in itertools.product(range(frames), range(detections)):
                if table[t, j] < objects:
                    weight = weight + assign_logits[t, j, table[t, j]]
            weight = torch.as_tensor(weight).exp()
            total += weight
            exists += weight * torch.tensor(present)
            assign += weight * torch.nn.functional.one_hot(table, objects + 1)
    return exists / total, assign / total


def test_exact_marginals():
    exists_logits, assign_logits = logits(2), logits(3, 2)
    exists, assign = brute_force(exists_logits, assign_logits[None], exclusive=False)
    found = MarginalAssignment(exists_logits, assign_logits)
    torch.testing.assert_close(found.exists_dist.probs, exists)
    torch.testing.assert_close(found.assign_dist.probs, assign[0])
    assert (found.num_detections, found.num_objects) == (3, 2)


def test_exact_marginals_of_frames():
    exists_logits, assign_logits = logits(2), logits(2, 2, 2)
    exists, assign = brute_force(exists_logits, assign_logits, exclusive=True)
    found = MarginalAssignmentPersistent(exists_logits, assign_logits)
    torch.testing.assert_close(found.exists_dist.probs, exists)
    torch.testing.assert_close(found.assign_dist.probs, assign)
    assert (found.num_frames, found.num_detections, found.num_objects) == (2, 2, 2)


def test_propagation_is_exact_without_loops():
    # One object: the graph is a tree.
    exists_logits, assign_logits = logits(1), logits(3, 1)
    exact = compute_marginals(exists_logits, assign_logits)
    torch.testing.assert_close(compute_marginals_bp(exists_logits, assign_logits, 5), exact)
    assign_logits = logits(3, 1, 1)
    exact = compute_marginals_persistent(exists_logits, assign_logits)
    found = compute_marginals_persistent_bp(exists_logits, assign_logits, 5, bp_momentum=0.0)
    torch.testing.assert_close(found, exact)


def test_propagation_is_close_with_loops():
    exists_logits, assign_logits = logits(3), logits(4, 3)
    exact = MarginalAssignment(exists_logits, assign_logits)
    close = MarginalAssignment(exists_logits, assign_logits, bp_iters=30)
    torch.testing.assert_close(close.exists_dist.probs, exact.exists_dist.probs, atol=0.03, rtol=0)
    torch.testing.assert_close(close.assign_dist.probs, exact.assign_dist.probs, atol=0.03, rtol=0)
    assign_logits = logits(2, 3, 2)
    exact = MarginalAssignmentPersistent(exists_logits[:2], assign_logits)
    close = MarginalAssignmentPersistent(exists_logits[:2], assign_logits, bp_iters=30)
    torch.testing.assert_close(close.exists_dist.probs, exact.exists_dist.probs, atol=0.05, rtol=0)
    torch.testing.assert_close(close.assign_dist.probs, exact.assign_dist.probs, atol=0.05, rtol=0)


def test_sparse_propagation_agrees_with_the_dense_one():
    exists_logits = logits(2)
    edges = torch.tensor([[0, 0, 1, 2], [0, 1, 1, 0]])
    assign_logits = logits(1, 4)[0]
    dense = torch.full((3, 2), -torch.inf, dtype=F64)
    dense[edges[0], edges[1]] = assign_logits
    expected = MarginalAssignment(exists_logits, dense, bp_iters=8)
    found = MarginalAssignmentSparse(2, 3, edges, exists_logits, assign_logits, bp_iters=8)
    torch.testing.assert_close(found.exists_dist.probs, expected.exists_dist.probs)
    torch.testing.assert_close(found.assign_dist.probs, expected.assign_dist.probs)


def test_gradients_reach_the_logits():
    exists_logits, assign_logits = logits(2).requires_grad_(), logits(3, 2).requires_grad_()
    for iterations in (None, 4):
        found = MarginalAssignment(exists_logits, assign_logits, iterations)
        total = found.exists_dist.probs.sum() + found.assign_dist.probs[:, 0].sum()
        for gradient in torch.autograd.grad(total, [exists_logits, assign_logits]):
            assert torch.isfinite(gradient).all() and gradient.abs().sum() > 0


def test_shapes_are_checked():
    with pytest.raises(ValueError, match="do not fit together"):
        MarginalAssignment(logits(2), logits(3, 3))
    with pytest.raises(ValueError, match="do not fit together"):
        MarginalAssignmentPersistent(logits(2), logits(3, 2))
    with pytest.raises(ValueError, match="do not fit together"):
        MarginalAssignmentSparse(2, 3, torch.zeros(2, 3, dtype=torch.long), logits(2), torch.zeros(4), 3)
