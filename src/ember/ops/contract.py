"""Sum products of tensors with plates, in several rings, by Pyro's names."""

from __future__ import annotations

import warnings
from collections.abc import Callable, Mapping, Sequence
from typing import Any

import torch
from torch import Tensor

from ember.ops.einsum.adjoint import is_marked
from ember.ops.equations import Equation, read
from ember.ops.plated_sums import contract_factors, plated_sum
from ember.ops.rings import BACKEND_TO_RING, MapRing, MarginalRing, Ring, SampleRing
from ember.ops.tensor_trees import contract_tensor_tree, contract_to_tensor
from ember.ops.unrolled_sums import joined_slices, unrolled
from ember.poutine.elimination.backward_draws import draw_backward
from ember.poutine.elimination.contraction import contraction_path, log_max, sum_out
from ember.poutine.elimination.factors import Factor, Plates, Variable, align, log_sum_exp
from ember.poutine.elimination.sum_product import eliminate, total

__all__ = [
    "Factor",
    "Variable",
    "contract_expression",
    "contract_tensor_tree",
    "contract_to_tensor",
    "contraction_path",
    "einsum",
    "eliminate",
    "log_max",
    "log_sum_exp",
    "naive_ubersum",
    "sum_out",
    "total",
    "ubersum",
]

_LOG = "pyro.ops.einsum.torch_log"


def einsum(
    equation: str,
    *operands: Tensor,
    plates: str = "",
    backend: str = "torch",
    cache: Any = None,
    modulo_total: bool = False,
) -> tuple[Tensor, ...]:
    """Sum products of tensors, with several results, over plates; by tensor variable elimination.

    Dims that are ``plates`` are multiplied over rather than summed. A dim that always appears with a plate
    stands for another one in each of its slices; a result that has such a dim must have the plate, too, and
    each of its slices is the sum over everything else, all other slices included:
    ``einsum("ab,ai,bi->b", w, x, y, plates="i")`` is the plain einsum ``ab,a,a,b,b->b`` of w and the slices
    of x and y.

    :param equation: an einsum equation, with results separated by commas.
    :param plates: symbols of the plates.
    :param backend: ``torch``, or for logarithms ``pyro.ops.einsum.torch_log``, ``…torch_map``,
        ``…torch_sample``, ``…torch_marginal`` (also with ``ember`` for ``pyro``).
    :param cache: kept for programs that give it.
    :param modulo_total: whether results with plates may lack factors that do not depend on their other dims.
    :returns: one tensor for each result.
    :raises ValueError: for operands and results that do not fit the equation, and unknown backends.
    :raises NotImplementedError: if the cost would be exponential in the size of a plate.
    """
    ring = _ring(backend)
    understood = read(equation, operands, plates)
    results = tuple(
        _result(understood, operands, output, ring, modulo_total) for output in understood.outputs
    )
    if isinstance(ring, MapRing | SampleRing | MarginalRing):
        for output, result in zip(understood.outputs, results, strict=True):
            _set_backward(understood, operands, output, result, ring)
    return results


def ubersum(equation: str, *operands: Tensor, **options: Any) -> tuple[Tensor, ...]:
    """Do what :func:`einsum` does, by default with logarithms (deprecated).

    :param options: those of :func:`einsum`, and ``batch_dims``, an old name of ``plates``.
    """
    warnings.warn(
        "'ubersum' is deprecated, use 'pyro.ops.contract.einsum' instead", DeprecationWarning, stacklevel=2
    )
    return einsum(equation, *operands, **_renamed(options))


def naive_ubersum(equation: str, *operands: Tensor, **options: Any) -> tuple[Tensor, ...]:
    """Compute the results of :func:`ubersum` by unrolling the plates, at exponential cost, for comparison.

    :param options: those of :func:`ubersum`.
    """
    options = _renamed(options)
    understood = read(equation, operands, options.get("plates", ""))
    slices = unrolled(understood, operands)
    return tuple(
        joined_slices(understood, slices, out, _ring(options["backend"])) for out in understood.outputs
    )


def contract_expression(equation: str, *shapes: Any, **options: Any) -> Callable[..., Tensor]:
    """Find a good order of summation once; returns a function of operands of these shapes.

    Wraps :func:`opt_einsum.contract_expression`.

    :param options: of opt_einsum, and ``cache_path``, which is kept for programs that give it.
    """
    import opt_einsum

    options.pop("cache_path", None)
    options.setdefault("optimize", "greedy")
    expression: Callable[..., Tensor] = opt_einsum.contract_expression(equation, *shapes, **options)
    return expression


def _ring(backend: str) -> Ring:
    if backend not in BACKEND_TO_RING:
        raise ValueError(f"unknown backend '{backend}': expected one of {', '.join(BACKEND_TO_RING)}")
    return BACKEND_TO_RING[backend]()


def _renamed(options: dict[str, Any]) -> dict[str, Any]:
    options = {"backend": _LOG, **options}
    if "batch_dims" in options:
        options["plates"] = options.pop("batch_dims")
    return options


def _result(
    equation: Equation, operands: Sequence[Tensor], output: str, ring: Ring, modulo_total: bool
) -> Tensor:
    kept = [ord(d) for d in output if d not in equation.plates]
    plates: Plates = frozenset(output) & equation.plates
    parts = plated_sum(equation.factors(operands), equation.plates_of, kept, plates, ring, modulo_total)
    whole = contract_factors(parts, (), ring)
    # A plate that nothing in the result depends on has as many slices all the same.
    return align(whole, [equation.dim(d) for d in output]).expand([equation.sizes[d] for d in output])


def _set_backward(
    equation: Equation, operands: Sequence[Tensor], output: str, result: Any, ring: Ring
) -> None:
    """Give a result the method that tells marked operands of its marginals, or of a draw."""

    def marginals() -> None:
        for dims, operand in zip(equation.inputs, operands, strict=True):
            if is_marked(operand):
                marked: Any = operand
                marked._pyro_backward_result = _result(equation, operands, dims, ring, modulo_total=True)

    def draws() -> None:
        if set(output) - equation.plates:
            raise NotImplementedError(
                f"draws are offered for results without dims to sum, not for '{output}'"
            )
        variables = {v: Variable(v, chr(v), plates) for v, plates in equation.plates_of.items()}
        best = isinstance(ring, MapRing)
        _, steps = eliminate(equation.factors(operands), variables, reduce=log_max if best else log_sum_exp)
        drawn = draw_backward(steps, temperature=0 if best else 1)
        for dims, operand in zip(equation.inputs, operands, strict=True):
            if is_marked(operand):
                marked: Any = operand
                marked._pyro_backward_result = _stacked(equation, dims, drawn)

    result._pyro_backward = marginals if isinstance(ring, MarginalRing) else draws


def _stacked(equation: Equation, dims: str, drawn: Mapping[int, Factor]) -> Any:
    """Return the indices of an operand's dims, stacked on the left of its plates."""
    plates = [d for d in dims if d in equation.plates]
    summed = [d for d in dims if d not in equation.plates]
    sizes = [equation.sizes[d] for d in plates]
    rows = [align(drawn[ord(d)], plates).expand(sizes) for d in summed]
    index: Any = torch.stack(rows) if rows else torch.zeros((0, *sizes), dtype=torch.long)
    index._pyro_dims = " " + "".join(plates)
    index._pyro_sample_dims = "".join(summed)
    return index
