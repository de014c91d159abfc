"""Compile the samples of torch's own operation database, and report which lower and agree.

The fast test takes operations that probabilistic models meet; the slow ones take everything, also with
gradients and in other dtypes, and demand a minimal share. With ``-s`` they print shares and what is missing.
"""

import collections
import warnings

import pytest
import torch
from torch.utils._pytree import tree_flatten, tree_unflatten

from ember.engine.capture import capture
from ember.engine.compile import compile
from ember.engine.interpret import interpret
from ember.engine.lowering import NotLowerable
from ember.engine.passes.simplify import simplify
from ember.engine.recording.refusal import NotCapturable

with warnings.catch_warnings():
    warnings.simplefilter("ignore")
    from torch.testing._internal.common_methods_invocations import op_db

LIKELY = """
    add all amax amin any argmax atan2 bmm cat cholesky_solve clamp copysign cumprod cumsum
    diag_embed diagonal div dot erf erfinv exp expand expm1 flip gather index_add index_put
    index_select le lerp lgamma linalg.cholesky linalg.slogdet linalg.solve_triangular log log1p
    log_softmax logaddexp logcumsumexp logsumexp masked_fill matmul max maximum mm mul mv narrow
    block_diag linspace nn.functional.celu nn.functional.group_norm nn.functional.pixel_shuffle
    nn.functional.pixel_unshuffle nn.functional.soft_margin_loss
    outer permute polygamma pow prod reciprocal remainder reshape roll rsqrt scatter scatter_add
    select select_scatter sigmoid sign slice slice_scatter softmax sort special.log_ndtr
    special.ndtri special.xlog1py split sqrt square squeeze stack std sub sum take_along_dim tanh
    transpose tril unbind unfold var where xlogy
    """.split()  # noqa: SIM905
# Where torch leaves the order of ties, signs of vectors or approximations open, or is itself less accurate.
OPEN = {
    "topk", "kthvalue", "msort", "special.bessel_j0", "special.bessel_j1", "special.bessel_y0",
    "special.bessel_y1", "linalg.eigh", "linalg.svd", "mode", "linalg.qr", "qr", "svd", "svd_lowrank",
    "pca_lowrank", "polygamma", "special.polygamma",
}  # fmt: skip
SKIPPED = (
    "fft",
    "nn.functional.conv",
    "jiterator",
    "sparse",
    "_native",
    "stft",
    "istft",
    "to_sparse",
    "_refs",
    "bfloat16",
)


def as_function(info, sample, gradient):
    leaves, structure = tree_flatten((sample.input, list(sample.args), dict(sample.kwargs)))
    tensors = [leaf for leaf in leaves if isinstance(leaf, torch.Tensor)]

    def function(*given):
        rest = iter(given)
        filled = [next(rest) if isinstance(leaf, torch.Tensor) else leaf for leaf in leaves]
        first, args, kwargs = tree_unflatten(filled, structure)
        result = info.op(first, *args, **kwargs)
        outputs = [each for each in tree_flatten(result)[0] if isinstance(each, torch.Tensor)]
        wanted = [each for each in given if each.requires_grad]
        differentiable = [each for each in outputs if each.requires_grad]
        if gradient and wanted and differentiable:
            total = sum((each * each).sum() for each in differentiable)
            found = torch.autograd.grad(total, wanted, allow_unused=True)
            outputs += [each for each in found if each is not None]
        return [each.detach() for each in outputs]

    return function, tensors


def outcome(info, sample, gradient):
    """Return "agrees", "wrong: …", "not captured: …" or "not lowered: …"."""
    function, tensors = as_function(info, sample, gradient)
    if not tensors:
        return None
    try:
        program = simplify(capture(function, *tensors))
    except NotCapturable:
        return f"not captured: {info.name}"
    try:
        compiled = compile(program, use_disk=False)
    except NotLowerable as error:
        return f"not lowered: {error.op}"
    tensors = [each.detach() for each in tensors]
    expected = interpret(program, *tensors)
    for one, other in zip(compiled(*tensors), expected, strict=True):
        single = other.dtype == torch.float32
        try:
            torch.testing.assert_close(
                one, other, rtol=3e-4 if single else 1e-7, atol=1e-4 if single else 1e-9, equal_nan=True
            )
        except AssertionError as error:
            return f"wrong: {error}"
    return "agrees"


def sweep(dtype, gradient, limit, names=None):
    counts, missing, wrong = collections.Counter(), collections.Counter(), []
    for info in op_db:
        if info.name.startswith(SKIPPED) or info.name in OPEN or dtype not in info.supported_dtypes("cpu"):
            continue
        if info.name in ("sort", "argsort") and not dtype.is_floating_point:
            continue  # the order of ties is open
        if (names is not None and info.name not in names) or (gradient and not info.supports_autograd):
            continue
        with warnings.catch_warnings():
            warnings.simplefilter("ignore")
            samples = list(info.sample_inputs("cpu", dtype, requires_grad=gradient))
        step = max(1, len(samples) // limit)
        for sample in samples[::step][:limit]:
            with warnings.catch_warnings():
                warnings.simplefilter("ignore")
                result = outcome(info, sample, gradient)
            if result is None:
                continue
            counts[result.split(":")[0]] += 1
            if result.startswith("not"):
                missing[result] += 1
            if result.startswith("wrong"):
                wrong.append(f"{info.name} {info.variant_test_name}: {result}")
    total = sum(counts.values())
    shares = ", ".join(f"{100 * count / total:.1f} % {what}" for what, count in counts.most_common())
    print(f"\n{dtype}{' with gradient' if gradient else ''}: {shares} of {total} samples")
    print("  " + ", ".join(f"{what} ({count})" for what, count in missing.most_common(20)))
    return counts, wrong


def test_likely_operations_lower_and_agree():
    counts, wrong = sweep(torch.float64, False, 2, set(LIKELY))
    assert wrong == []
    assert counts["agrees"] >= 0.97 * sum(counts.values())


@pytest.mark.slow
@pytest.mark.parametrize(
    ("dtype", "gradient", "share"),
    [
        (torch.float64, False, 0.7),
        (torch.float64, True, 0.7),
        (torch.float32, False, 0.7),
        (torch.int64, False, 0.75),
        (torch.bool, False, 0.75),
    ],
    ids=["float64", "float64-gradient", "float32", "int64", "bool"],
)
def test_all_operations(dtype, gradient, share):
    counts, wrong = sweep(dtype, gradient, 6)
    assert wrong == []
    assert counts["agrees"] >= share * sum(counts.values())
