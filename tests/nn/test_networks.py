"""Check what the ready-made networks may depend on, and their shapes."""

import pytest
import torch

from ember.nn import (
    AutoRegressiveNN,
    ConditionalAutoRegressiveNN,
    ConditionalDenseNN,
    DenseNN,
    MaskedLinear,
)


def test_dense_heads():
    net = DenseNN(5, [7, 6], param_dims=[2, 3], nonlinearity=torch.nn.Tanh())
    first, second = net(torch.randn(4, 2, 5))
    assert first.shape == (4, 2, 2) and second.shape == (4, 2, 3)
    assert DenseNN(5, [], param_dims=[3])(torch.randn(5)).shape == (3,)


def test_context_reaches_every_output_and_broadcasts():
    net = ConditionalDenseNN(3, 2, [8], param_dims=[4], nonlinearity=torch.nn.Tanh())
    context = torch.randn(2, requires_grad=True)
    out = net(torch.randn(6, 3), context)
    assert out.shape == (6, 4)
    assert (torch.autograd.grad(out.sum(), context)[0] != 0).all()


@pytest.mark.parametrize("hidden", [[], [12], [12, 9]])
@pytest.mark.parametrize("skip", [False, True])
@pytest.mark.parametrize("context_dim", [0, 2])
def test_outputs_see_earlier_inputs_only_and_all_of_them(hidden, skip, context_dim):
    order = torch.tensor([2, 0, 3, 1])
    options = {"permutation": order, "skip_connections": skip, "nonlinearity": torch.nn.Tanh()}
    x, context = torch.randn(4), torch.randn(2)
    if context_dim:
        net = ConditionalAutoRegressiveNN(4, 2, hidden, param_dims=[1, 2], **options)
        one, two = torch.autograd.functional.jacobian(lambda v: net(v, context), x)
        seen = torch.autograd.functional.jacobian(lambda c: net(x, c), context)[0]
        assert (seen != 0).all()
    else:
        net = AutoRegressiveNN(4, hidden, param_dims=[1, 2], **options)
        one, two = torch.autograd.functional.jacobian(net, x)
    assert one.shape == (4, 4) and two.shape == (2, 4, 4)
    place = order.argsort()
    allowed = place.unsqueeze(-1) > place
    for jacobian in (one, two[0], two[1]):
        assert torch.equal(jacobian != 0, allowed)
    assert torch.equal(net.get_permutation(), order)


def test_batches_and_single_heads():
    net = AutoRegressiveNN(3, [5], param_dims=[1])
    x = torch.randn(6, 2, 3)
    assert net(x).shape == (6, 2, 3)
    torch.testing.assert_close(net(x)[4, 1], net(x[4, 1]))
    assert AutoRegressiveNN(3, [5], param_dims=[4])(x).shape == (6, 2, 4, 3)


def test_masked_linear():
    mask = torch.tensor([[1.0, 0.0], [1.0, 1.0], [0.0, 0.0]])
    layer = MaskedLinear(2, 3, mask)
    torch.testing.assert_close(layer(torch.eye(2)) - layer.bias, (layer.weight * mask).T)
    with pytest.raises(ValueError, match="wrong shape"):
        MaskedLinear(2, 3, mask.T)


def test_bad_input():
    with pytest.raises(ValueError, match="positive ints"):
        DenseNN(0, [3])
    with pytest.raises(ValueError, match="each input once"):
        AutoRegressiveNN(3, [4], permutation=torch.tensor([0, 0, 1]))
