"""Sum dims out of packed tensors that are ordered by their plates."""

from __future__ import annotations

from collections import OrderedDict
from collections.abc import Mapping, Sequence
from typing import Any

from torch import Tensor

from ember.ops.plated_sums import contract_factors, plated_sum
from ember.ops.rings import LogRing, Ring
from ember.poutine.elimination.factors import Dim, Factor, Plates


def contract_tensor_tree(
    tensor_tree: Mapping[Plates, Sequence[Tensor]],
    sum_dims: Any,
    cache: Any = None,
    ring: Ring | None = None,
) -> OrderedDict[Plates, list[Tensor]]:
    """Sum dims out of a tree of packed tensors; what is left is to be multiplied over its plates.

    :param tensor_tree: packed tensors (see :func:`~ember.ops.packed.pack`) by the symbols of their plates.
    :param sum_dims: symbols of the dims to sum out.
    :param cache: kept for programs that give it.
    :param ring: logarithms if not given.
    :raises NotImplementedError: if the cost would be exponential in the size of a plate.
    """
    ring = ring or LogRing()
    leaves, plates_of = _packed(tensor_tree, sum_dims)
    done: OrderedDict[Plates, list[Tensor]] = OrderedDict()
    for factor in plated_sum(leaves, plates_of, (), frozenset(), ring, partly=True):
        done.setdefault(factor.plates, []).append(_as_packed(factor, factor.dims))
    return done


def contract_to_tensor(
    tensor_tree: Mapping[Plates, Sequence[Tensor]],
    sum_dims: Any,
    target_ordinal: Plates | None = None,
    target_dims: Any = None,
    cache: Any = None,
    ring: Ring | None = None,
) -> Tensor:
    """Sum dims out of a tree of packed tensors, and multiply over plates, to a single packed tensor.

    :param tensor_tree: packed tensors by the symbols of their plates.
    :param sum_dims: symbols of the dims that are summed rather than multiplied over.
    :param target_ordinal: plates of the result.
    :param target_dims: those of ``sum_dims`` that stay.
    :param cache: kept for programs that give it.
    :param ring: logarithms if not given.
    :raises NotImplementedError: if the cost would be exponential in the size of a plate.
    """
    ring = ring or LogRing()
    leaves, plates_of = _packed(tensor_tree, sum_dims)
    kept = [ord(dim) for dim in target_dims or ()]
    found = plated_sum(leaves, plates_of, kept, frozenset(target_ordinal or ()), ring, modulo_total=True)
    whole = contract_factors(found, (), ring)
    return _as_packed(whole, sorted(whole.dims, key=lambda dim: isinstance(dim, str)))


def _packed(
    tensor_tree: Mapping[Plates, Sequence[Any]], sum_dims: Any
) -> tuple[list[Factor], dict[int, Plates]]:
    """Return the tensors as factors, and the plates of each dim that is summed."""
    sizes = {
        symbol: size
        for tensors in tensor_tree.values()
        for tensor in tensors
        for symbol, size in zip(tensor._pyro_dims, tensor.shape, strict=True)
    }
    factors: list[Factor] = []
    plates_of: dict[int, Plates] = {}
    for ordinal, tensors in tensor_tree.items():
        for tensor in tensors:
            symbols = tensor._pyro_dims
            # A tensor is repeated along those of its plates that it has no dim of.
            missing = "".join(sorted(plate for plate in ordinal if plate not in symbols))
            whole = tensor.expand([sizes.get(plate, 1) for plate in missing] + list(tensor.shape))
            dims: tuple[Dim, ...] = tuple(ord(d) if d in sum_dims else d for d in missing + symbols)
            factors.append(Factor(dims, whole, frozenset(ordinal)))
            for dim in dims:
                if isinstance(dim, int):
                    plates_of[dim] = plates_of.get(dim, ordinal) & ordinal
    return factors, plates_of


def _as_packed(factor: Factor, order: Sequence[Dim]) -> Tensor:
    packed: Any = factor.tensor.permute([factor.dims.index(dim) for dim in order])
    packed._pyro_dims = "".join(dim if isinstance(dim, str) else chr(dim) for dim in order)
    return packed
