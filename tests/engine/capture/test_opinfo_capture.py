"""Check capture and interpretation against eager torch on the samples of torch's own operation database.

The fast test takes every operation that a probabilistic model is likely to meet; the slow one takes all of
them, with gradients, and demands a minimal share of captured samples.
"""

from __future__ import annotations

import warnings

import pytest
import torch
from torch.utils._pytree import tree_flatten, tree_unflatten

from ember.engine.capture import capture
from ember.engine.interpret import interpret
from ember.engine.passes.simplify import simplify
from ember.engine.recording.refusal import NotCapturable

with warnings.catch_warnings():
    warnings.simplefilter("ignore")
    from torch.testing._internal.common_methods_invocations import op_db

LIKELY = set(
    """
    abs acos acosh add addbmm addcdiv addcmul addmm addmv addr all amax amin any argmax argmin asin
    as_strided atan atan2 baddbmm bmm broadcast_tensors broadcast_to cat cdist ceil cholesky_solve
    chunk clamp clamp_max clamp_min clone column_stack constant_pad_nd copysign cos cosh
    count_nonzero cross cummax cumprod cumsum cumulative_trapezoid deg2rad diag diag_embed diagonal
    diagonal_scatter diff digamma dist div dot dsplit einsum eq erf erfc erfinv exp exp2 expand
    expand_as expm1 eye flatten flip fliplr flipud float float_power floor floor_divide fmax fmin
    fmod frac full_like gather ge gradient gt hypot i0 index_add index_copy index_fill index_put
    index_select inner isfinite isinf isnan kron ldexp le lerp lgamma linalg.cholesky linalg.det
    linalg.eigh linalg.inv linalg.norm linalg.slogdet linalg.solve linalg.solve_triangular
    linalg.vector_norm log log10 log1p log2 log_softmax logaddexp logaddexp2 logcumsumexp logdet
    logical_and logical_not logical_or logical_xor logit logsumexp lt masked_fill masked_scatter
    matmul max maximum mean median meshgrid min minimum mm movedim mul mv mvlgamma nan_to_num nansum
    narrow ne neg new_full new_ones new_zeros norm nn.functional.binary_cross_entropy
    nn.functional.binary_cross_entropy_with_logits nn.functional.celu
    nn.functional.cosine_similarity nn.functional.cross_entropy nn.functional.elu
    nn.functional.embedding nn.functional.gelu nn.functional.glu nn.functional.hardsigmoid
    nn.functional.hardswish nn.functional.hardtanh nn.functional.huber_loss nn.functional.kl_div
    nn.functional.l1_loss nn.functional.layer_norm nn.functional.leaky_relu nn.functional.linear
    nn.functional.logsigmoid nn.functional.mish nn.functional.mse_loss nn.functional.nll_loss
    nn.functional.normalize nn.functional.one_hot nn.functional.pad nn.functional.pairwise_distance
    nn.functional.pdist nn.functional.poisson_nll_loss nn.functional.prelu nn.functional.relu
    nn.functional.relu6 nn.functional.selu nn.functional.silu nn.functional.smooth_l1_loss
    nn.functional.softmin nn.functional.softplus nn.functional.softshrink nn.functional.softsign
    nn.functional.tanhshrink nn.functional.threshold ones_like outer permute polar polygamma pow
    prod put rad2deg ravel real reciprocal remainder repeat reshape roll rot90 round rsqrt rsub
    scatter scatter_add scatter_reduce select select_scatter sgn sigmoid sign signbit sin sinc sinh
    slice slice_scatter softmax sort special.erfcx special.i0e special.i1 special.i1e
    special.log_ndtr special.ndtr special.ndtri special.xlog1py special.zeta split sqrt square
    squeeze stack std std_mean sub sum sum_to_size t take take_along_dim tan tanh tensor_split
    tensordot tile topk trace transpose trapezoid triangular_solve tril triu true_divide trunc
    unbind unflatten unfold unsqueeze vander var var_mean vdot view view_as vsplit where xlogy
    zeros_like
    """.split()  # noqa: SIM905
)
SAMPLES = 6


def operations(names=None):
    for info in op_db:
        if torch.float64 in info.dtypes and (names is None or info.name in names):
            yield pytest.param(
                info, id=f"{info.name}{info.variant_test_name and '.' + info.variant_test_name}"
            )


def samples(info, requires_grad, limit):
    found = []
    for sample in info.sample_inputs("cpu", torch.float64, requires_grad=requires_grad):
        if len(found) == limit:
            break
        found.append(sample)
    return found


def as_function(info, sample):
    """Return a function of the sample's tensors, and these."""
    leaves, structure = tree_flatten((sample.input, list(sample.args), dict(sample.kwargs)))
    places = [index for index, leaf in enumerate(leaves) if isinstance(leaf, torch.Tensor)]
    tensors = [leaves[index] for index in places]

    def function(*given):
        filled = list(leaves)
        for index, tensor in zip(places, given, strict=True):
            filled[index] = tensor
        first, args, kwargs = tree_unflatten(filled, structure)
        result = info.op(first, *args, **kwargs)
        if sample.output_process_fn_grad is not None:
            result = sample.output_process_fn_grad(result)
        return [each for each in tree_flatten(result)[0] if isinstance(each, torch.Tensor)]

    return function, tensors


def with_gradient(function):
    """Return a function that computes the gradient of the sum of all squares of the results."""

    def gradient(*given):
        leaves = [each.detach().requires_grad_(each.requires_grad) for each in given]
        results = [each for each in function(*leaves) if each.requires_grad and each.is_floating_point()]
        wanted = [each for each in leaves if each.requires_grad]
        if not results or not wanted:
            return []
        total = sum((each * each).sum() for each in results)
        found = torch.autograd.grad(total, wanted, allow_unused=True)
        return [each for each in found if each is not None]

    return gradient


def check(function, tensors):
    """Compare; return whether the sample was captured."""
    try:
        program = capture(function, *tensors)
    except NotCapturable as error:
        return str(error)
    expected = [each.detach() for each in function(*tensors)]
    for candidate in (program, simplify(program)):
        found = interpret(candidate, *(each.detach() for each in tensors))
        assert len(found) == len(expected)
        for one, other in zip(found, expected, strict=True):
            torch.testing.assert_close(one, other, equal_nan=True, rtol=1e-9, atol=1e-9, check_stride=False)
    return None


REFUSED = {"nn.functional.one_hot", "polar"}
# Some of their results are memory that nobody wrote to.
UNINITIALISED = {"empty_like", "empty_permuted", "empty_strided", "new_empty", "new_empty_strided"}
# Some samples take a number from a tensor, or write to an argument.
PARTLY_REFUSED = {"narrow", "tensor_split", "nn.functional.embedding", "index_fill", "as_strided"}
# The gradient counts or picks elements by an index or a mask that is an input.
GRADIENT_REFUSED = {"index_fill", "index_put", "index_reduce"}


@pytest.mark.filterwarnings("ignore")
@pytest.mark.parametrize("info", list(operations(LIKELY)))
def test_likely_operations(info):
    reasons = [check(*as_function(info, sample)) for sample in samples(info, False, SAMPLES)]
    if info.name in REFUSED or info.variant_test_name == "partial_views":
        assert all(reasons)
        return
    if info.name in PARTLY_REFUSED:
        assert not all(reasons)
    else:
        assert reasons and not any(reasons), reasons
    if info.supports_autograd and info.name not in GRADIENT_REFUSED | PARTLY_REFUSED:
        for sample in samples(info, True, 3):
            function, tensors = as_function(info, sample)
            assert check(with_gradient(function), tensors) is None


@pytest.mark.slow
@pytest.mark.filterwarnings("ignore")
def test_share_of_all_samples():
    outcomes, reasons, wrong = [0, 0], {}, []
    for parameter in operations():
        info = parameter.values[0]
        if info.name in UNINITIALISED:
            continue
        for sample in samples(info, False, 20):
            function, tensors = as_function(info, sample)
            try:
                function(*tensors)
            except Exception:
                continue
            try:
                reason = check(function, tensors)
            except AssertionError as error:
                wrong.append((parameter.id, str(error)[:200]))
                continue
            outcomes[reason is not None] += 1
            if reason is not None:
                reasons.setdefault(parameter.id, reason)
    captured = outcomes[0] / sum(outcomes)
    print(f"\ncaptured {outcomes[0]} of {sum(outcomes)} samples ({captured:.1%}); refused:")
    for name, reason in reasons.items():
        print(f"  {name}: {reason.splitlines()[0][:150]}")
    assert not wrong
    assert captured > 0.85
