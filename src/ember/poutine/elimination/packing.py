"""Name the batch dims of a trace's tensors by symbols, without the dims of size one."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from torch import Tensor

from ember.errors import message


def pack(value: Any, dim_to_symbol: Mapping[int, str]) -> Any:
    """Squeeze a tensor's dims of size 1 and note the symbols of the others in ``_pyro_dims``.

    Numbers pass unchanged.

    :param dim_to_symbol: symbols of negative dims.
    :raises ValueError: for a dim that has no symbol.
    """
    if not isinstance(value, Tensor):
        return value
    dims = []
    for dim in range(-value.ndim, 0):
        if value.shape[dim] == 1:
            continue
        if dim not in dim_to_symbol:
            raise ValueError(
                message(
                    f"Enumeration dim conflict at dim {dim} of a tensor of shape {tuple(value.shape)}",
                    expected=f"sizes other than 1 only at dims {sorted(dim_to_symbol)}",
                    actual=f"size {value.shape[dim]} at dim {dim}",
                    fix="declare the dim by a plate or .to_event(n), or let markov have a longer history",
                )
            )
        dims.append(dim_to_symbol[dim])
    packed: Any = value.squeeze()
    packed._pyro_dims = "".join(dims)
    return packed


def unpack(value: Any, symbol_to_dim: Mapping[str, int]) -> Any:
    """Undo :func:`pack`: return a tensor with each of its symbols' dims in its place."""
    if not isinstance(value, Tensor):
        return value
    dims = {symbol_to_dim[symbol]: position for position, symbol in enumerate(value._pyro_dims)}  # type: ignore[attr-defined]
    order = sorted(dims)
    shape = [1] * max((-dim for dim in dims), default=0)
    for dim in order:
        shape[dim] = value.shape[dims[dim]]
    return value.permute([dims[dim] for dim in order]).reshape(shape)


def symbolize(nodes: Mapping[str, Any], plate_to_symbol: Mapping[str, str] | None = None) -> None:
    """Set ``infer["_dim_to_symbol"]`` of all sample sites: one symbol for each plate and each variable.

    :param plate_to_symbol: symbols that plates already have, by name.
    """
    from opt_einsum import get_symbol

    symbols: dict[str | int, str] = {}
    symbols.update(plate_to_symbol or {})

    def symbol(key: str | int) -> str:
        number = len(symbols)
        while key not in symbols:
            candidate = get_symbol(number)
            number += 1
            if candidate not in symbols.values():
                symbols[key] = candidate
        return symbols[key]

    for site in nodes.values():
        if site["type"] != "sample":
            continue
        named = {frame.dim: symbol(frame.name) for frame in site["cond_indep_stack"] if frame.dim is not None}
        variables = site["infer"].get("_dim_to_id", {})
        named.update({dim: symbol(variable) for dim, variable in variables.items() if variable >= 0})
        site["infer"]["_dim_to_symbol"] = named


def pack_site(site: Any) -> None:
    """Set ``packed``: the log probabilities, masks, scales and score parts that are there, packed."""
    named = site["infer"]["_dim_to_symbol"]
    packed: dict[str, Any] = {}
    try:
        for key in ("unscaled_log_prob", "log_prob", "mask", "scale"):
            if key in site:
                packed[key] = pack(site[key], named)
        if "score_parts" in site:
            parts = site["score_parts"]
            packed["score_parts"] = type(parts)(*(pack(part, named) for part in parts))
    except ValueError as error:
        raise ValueError(f"at site '{site['name']}': {error}") from error
    site["packed"] = packed
