"""Check that a recorded program does the same as part of another one, loops and branches included."""

import torch

from ember import engine
from ember.engine.passes.simplify import simplify
from ember.engine.replay import replay

SCALE = torch.tensor([0.5, 2.0, 1.0])


def value_and_gradient(z, data):
    z = z.detach().requires_grad_()

    def step(carry, x):
        return torch.tanh(carry * SCALE + x), carry.sum()

    last, sums = engine.scan(step, z, data)
    value = engine.cond(sums.detach().sum() > 0, lambda: last.sum() + sums.sum(), lambda: last.prod())
    return value.detach(), *torch.autograd.grad(value, z)


def test_replay_inside_a_loop_of_another_program():
    z, data = torch.tensor([0.3, -0.2, 0.1]), torch.linspace(-1.0, 1.0, 5)
    recorded = simplify(engine.capture(value_and_gradient, z, data))
    torch.testing.assert_close(replay(recorded, z, data), value_and_gradient(z, data))

    def climb(evaluate):
        def ascend(z, data):
            step = lambda carry: (carry[0] + 1, carry[1] + 0.1 * evaluate(carry[1], data)[1])  # noqa: E731
            return engine.while_loop(lambda carry: carry[0] < 4, step, (0, z))[1]

        return ascend

    expected = climb(value_and_gradient)(z, data)
    assert not torch.allclose(expected, z)
    program = engine.capture(climb(lambda *tensors: replay(recorded, *tensors)), z, data)
    for compiled in (program, simplify(program)):
        torch.testing.assert_close(engine.interpret(compiled, z, data)[0], expected)
    torch.testing.assert_close(engine.compile(program)(z, data)[0], expected)
