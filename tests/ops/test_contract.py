"""Compare plated sums of products with unrolled plain einsums."""

import itertools

import opt_einsum
import pytest
import torch

from ember.ops.contract import (
    contract_expression,
    contract_tensor_tree,
    contract_to_tensor,
    einsum,
    naive_ubersum,
    ubersum,
)
from ember.ops.einsum.adjoint import require_backward
from ember.ops.packed import pack
from ember.ops.rings import LinearRing, LogRing, MapRing

SIZES = {"a": 2, "b": 3, "c": 2, "d": 3, "i": 3, "j": 2, "k": 2}
close = torch.testing.assert_close

EQUATIONS = [
    ("ab,bc->a,c,,ac", ""),
    ("ai->", "i"),
    ("ab,ai,bi->b", "i"),
    ("ai,a->a", "i"),
    ("abi,abi->bi", "i"),
    ("a,abi->bi,a,,i,abi", "i"),
    ("i->i,", "i"),
    ("bi,b->b,", "i"),
    ("a,abi,bcij->a,bi,cij,bcij", "ij"),
    ("ai,aj->a,", "ij"),
    ("ab,bi,cij,cdij->ab,cij,d" + "ij", "ij"),
    ("a,b,abi->a,b", "i"),
    ("a,aij,bij->bij", "ij"),
    ("ai,abij,bcijk->ai,bij,", "ijk"),
]


def operands_of(equation, generator=None):
    inputs = equation.split("->")[0].split(",")
    generator = torch.Generator().manual_seed(len(equation))
    return [torch.rand([SIZES[d] for d in dims], generator=generator, dtype=torch.float64) for dims in inputs]


@pytest.mark.parametrize("equation, plates", EQUATIONS)
@pytest.mark.parametrize("backend", ["torch", "pyro.ops.einsum.torch_log", "ember.ops.einsum.torch_map"])
def test_plated_einsum_is_the_unrolled_one(equation, plates, backend):
    operands = operands_of(equation)
    operands = operands if backend == "torch" else [each.log() for each in operands]
    found = einsum(equation, *operands, plates=plates, backend=backend)
    expected = naive_ubersum(equation, *operands, plates=plates, backend=backend)
    close(found, expected)
    for output, scaled, exact in zip(
        equation.split("->")[1].split(","),
        einsum(equation, *operands, plates=plates, backend=backend, modulo_total=True),
        expected,
        strict=True,
    ):
        assert scaled.shape == exact.shape == tuple(SIZES[d] for d in output)
        if not set(output) & set(plates):
            close(scaled, exact)


def test_the_unrolled_one_is_a_plain_einsum():
    w, x, y = operands_of("ab,ai,bi")
    (found,) = naive_ubersum("ab,ai,bi->b", w, x, y, plates="i", backend="torch")
    close(found, torch.einsum("ab,a,a,a,b,b,b->b", w, *x.mT, *y.mT))
    x, y = operands_of("a,abi")
    (found,) = naive_ubersum("a,abi->bi", x, y, plates="i", backend="torch")
    slices = [
        torch.einsum("a,ab,ac,ad->b", x, *(y[..., (n + m) % 3] for m in range(3)))  # the n-th one first
        for n in range(3)
    ]
    close(found, torch.stack(slices, -1))


@pytest.mark.parametrize("equation", ["ab,bc,cd->a,bd", "abc,ad,b->,c", "a,b->ab,"])
def test_without_plates_each_result_is_an_einsum(equation):
    operands = operands_of(equation)
    inputs, outputs = equation.split("->")
    expected = tuple(torch.einsum(f"{inputs}->{output}", *operands) for output in outputs.split(","))
    close(einsum(equation, *operands), expected)
    logs = einsum(equation, *(each.log() for each in operands), backend="pyro.ops.einsum.torch_log")
    close(tuple(each.exp() for each in logs), expected)


def test_impossible_values_and_gradients():
    x, y = operands_of("abi,abi")
    x[0], y[:, 1, 0] = 0.0, 0.0
    x.requires_grad_()
    (linear,) = einsum("abi,abi->bi", x, y, plates="i")
    (log,) = einsum("abi,abi->bi", x.log(), y.log(), plates="i", backend="pyro.ops.einsum.torch_log")
    close(log.exp(), linear)
    leaf = x.detach().log().requires_grad_()
    (total,) = einsum("abi,abi->", leaf, y.log(), plates="i", backend="pyro.ops.einsum.torch_log")
    assert torch.isfinite(torch.autograd.grad(total, leaf)[0]).all()
    weights, _ = operands_of("abi,abi")
    assert torch.autograd.gradcheck(
        lambda each: einsum("abi,abi->bi", each, y, plates="i")[0], weights.requires_grad_()
    )


def test_old_names():
    (x,) = operands_of("ai")
    with pytest.warns(DeprecationWarning, match="use 'pyro.ops.contract.einsum'"):
        close(ubersum("ai->", x.log(), batch_dims="i"), (x.sum(0).log().sum(),))
    a, b = operands_of("ab,bc")
    expression = contract_expression("ab,bc->ac", (2, 3), (3, 2), cache_path=True)
    close(expression(a, b), opt_einsum.contract("ab,bc->ac", a, b))


def test_refusals():
    x, y, z = operands_of("ai,bj,abij")
    with pytest.raises(NotImplementedError, match=r"tree-structured plates(?s:.*)'a' in plates \{i\}"):
        einsum("ai,bj,abij->", x, y, z, plates="ij")
    for equation, text in [
        ("ai->a", r"without the plates \['i'\]"),
        ("ai->ab", r"dims in no operand: \['b'\]"),
        ("ai", "letters only"),
        ("ai,b->", "has 2 operands, got 1"),
        ("a->", r"shape \(2, 3\)"),
        ("aa->", "distinct dims"),
    ]:
        with pytest.raises(ValueError, match=text):
            einsum(equation, x, plates="i")
    with pytest.raises(ValueError, match=r"a: 2, b: any size(?s:.*)shape \(3, 2\)"):
        einsum("ai,ab->", x, torch.ones(3, 2), plates="i")
    with pytest.raises(ValueError, match="unknown backend 'numpy'"):
        einsum("ai->", x, plates="i", backend="numpy")


@pytest.mark.parametrize("equation, plates", [("ab,b->", ""), ("abi,b->", "i"), ("a,abi,bcij->", "ij")])
def test_going_backward(equation, plates):
    inputs = equation.split("->")[0].split(",")
    operands = [each.log() for each in operands_of(equation)]
    require_backward(operands[1])

    def run(backend):
        (result,) = einsum(equation, *operands, plates=plates, backend=f"pyro.ops.einsum.torch_{backend}")
        result._pyro_backward()
        return result, operands[1]._pyro_backward_result

    _, marginal = run("marginal")
    (expected,) = naive_ubersum(f"{equation}{inputs[1]}", *operands, plates=plates)
    summed = [n for n, d in enumerate(inputs[1]) if d not in plates]
    close(
        marginal - marginal.logsumexp(summed, keepdim=True),
        expected - expected.logsumexp(summed, keepdim=True),
    )
    assert not hasattr(operands[0], "_pyro_backward_result")
    best, index = run("map")
    for operand in operands:
        require_backward(operand)
    run("map")
    score = torch.zeros((), dtype=torch.float64)
    for operand, dims in zip(operands, inputs, strict=True):
        index = operand._pyro_backward_result
        assert index._pyro_sample_dims + index._pyro_dims[1:] == dims
        for place in itertools.product(*map(range, index.shape[1:])):
            score = score + operand[(*index[(slice(None), *place)].tolist(), *place)]
    close(score, best)
    draws = torch.stack([run("sample")[1] for _ in range(300)])
    probs = (marginal - marginal.logsumexp(summed, keepdim=True)).exp()
    first = (probs.sum(summed[1:]) if summed[1:] else probs)[0]  # dims of plates come last
    share = (draws[:, 0] == 0).double().mean(0)
    close(share, first, atol=5 * 0.5 / 300**0.5, rtol=0)


def test_trees_of_packed_tensors():
    w, x = (each.log() for each in operands_of("a,ai"))
    tree = {
        frozenset(): [pack(w.unsqueeze(-1), {-2: "a", -1: "i"})],
        frozenset("i"): [pack(x, {-2: "a", -1: "i"})],
    }
    ((plates, (total,)),) = contract_tensor_tree(tree, {"a"}).items()
    assert plates == frozenset() and total._pyro_dims == ""
    close(total, (w + x.sum(-1)).logsumexp(0))
    close(contract_to_tensor(tree, {"a"}, ring=LogRing()), total)
    close(contract_to_tensor(tree, {"a"}, ring=MapRing()), (w + x.sum(-1)).max())
    kept = contract_to_tensor(tree, {"a"}, target_dims={"a"})
    assert kept._pyro_dims == "a"
    close(kept, w + x.sum(-1))
    alone = {frozenset("i"): [pack(x.exp(), {-2: "a", -1: "i"})]}
    close(contract_to_tensor(alone, {"a"}, target_ordinal=frozenset("i"), ring=LinearRing()), x.exp().sum(0))
    close(contract_to_tensor(alone, {"a"}, ring=LinearRing()), x.exp().sum(0).prod())
    ((plates, (left,)),) = contract_tensor_tree(alone, {"a"}, ring=LinearRing()).items()
    assert plates == frozenset("i") and left._pyro_dims == "i"
    close(left, x.exp().sum(0))
