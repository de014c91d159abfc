"""Classify ATen operations once each: what they return, alias, mutate, and if a program may hold them."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

import torch

_DATA_DEPENDENT = {torch.Tag.data_dependent_output, torch.Tag.dynamic_output_shape}
# Indexing depends on data only if by a mask, which capture sees to itself.
_STATIC = {"aten.index.Tensor"}
# Results that depend on shapes and dtypes of the arguments alone.
_SHAPE_ONLY = {
    "zeros_like", "ones_like", "full_like", "empty_like", "new_zeros", "new_ones", "new_full", "new_empty",
    "new_empty_strided", "zero",
}  # fmt: skip
# Answers about metadata, which is static.
_METADATA = {
    "is_same_size",
    "sym_size",
    "sym_numel",
    "sym_stride",
    "sym_storage_offset",
    "dense_dim",
    "sparse_dim",
}
# Operations that change a tensor's own shape in place, by the view operation that they amount to ...
_RESHAPING = {"squeeze_", "unsqueeze_", "t_", "transpose_", "swapaxes_", "swapdims_"}
# ... and those that have none.
_METADATA_MUTATION = {"resize_", "resize_as_", "set_", "as_strided_", "rename_", "resize"}
# Checks that raise on what a program shows as NaN.
_CHECKS = {"_linalg_check_errors", "_assert_async", "_assert_tensor_metadata"}


@dataclass(frozen=True, slots=True)
class Operation:
    """What capture needs to know about one overload."""

    name: str
    base: str  # the name without namespace and overload
    is_random: bool
    is_data_dependent: bool
    is_shape_only: bool
    is_metadata: bool
    mutates_metadata: bool
    is_reshaping: bool
    is_check: bool
    is_view: bool
    is_uninitialised: bool
    mutated: tuple[str, ...]  # names of the arguments written to
    mutated_positions: tuple[int, ...]
    functional: Any  # the overload that returns what this one writes, if there is one


_known: dict[Any, Operation] = {}


def classify(func: Any) -> Operation:
    """Return the facts about an operation overload, cached."""
    known = _known.get(func)
    if known is None:
        known = _known[func] = _classify(func)
    return known


def _classify(func: Any) -> Operation:
    schema = func._schema
    namespace, base = schema.name.split("::")
    name = f"{namespace}.{base}.{schema.overload_name or 'default'}"
    tags = set(func.tags)
    mutated, positions, is_view = [], [], False
    for position, argument in enumerate(schema.arguments):
        alias = argument.alias_info
        if alias is None:
            continue
        if alias.is_write:
            mutated.append(argument.name)
            positions.append(position)
        else:
            is_view = True
    if base.startswith("_reshape_alias"):
        is_view = True
    return Operation(
        name=name,
        base=base,
        is_random=torch.Tag.nondeterministic_seeded in tags
        or any(argument.name == "generator" for argument in schema.arguments),
        is_data_dependent=bool(tags & _DATA_DEPENDENT) and name not in _STATIC,
        is_shape_only=base in _SHAPE_ONLY or name == "aten.fill.Scalar",
        is_metadata=base in _METADATA,
        mutates_metadata=base in _METADATA_MUTATION,
        is_reshaping=base in _RESHAPING,
        is_check=base in _CHECKS,
        is_view=is_view and not mutated,
        is_uninitialised=base in ("empty", "empty_like", "new_empty", "new_empty_strided", "empty_strided"),
        mutated=tuple(mutated),
        mutated_positions=tuple(positions),
        functional=_functional(schema, namespace, base) if mutated else None,
    )


def _functional(schema: Any, namespace: str, base: str) -> Any:
    """Find the twin of an operation in place, or with an argument ``out``, that only returns; or None."""
    has_out = [argument.name for argument in schema.arguments if argument.is_out] == ["out"]
    if not has_out and (not base.endswith("_") or base.endswith("__")):
        return None
    name = base if has_out else "index_put" if base == "_index_put_impl_" else base[:-1]
    packet = getattr(getattr(torch.ops, namespace), name, None)
    if packet is None:
        return None
    wanted = [str(each.type) for each in schema.arguments if each.name != "unsafe" and not each.is_out]
    for each in packet.overloads():
        # Overload names differ: the twin of pow_.Scalar is pow.Tensor_Scalar.
        found = getattr(packet, each)
        types = [str(argument.type) for argument in found._schema.arguments]
        if types == wanted and not any(a.is_out for a in found._schema.arguments):
            return found
    return None
