"""Check the batch dimensions of sites: declared by plates, and matched by the masks of observations."""

from __future__ import annotations

from typing import Any

import torch

from ember.distributions.shapes import broadcast_shape
from ember.errors import message
from ember.poutine.runtime import get_plates


def check_site_shape(site: Any, max_plate_nesting: float, where: str | None = None) -> None:
    """Raise unless every batch dimension of the site's log probability is a plate's, with the plate's size.

    Dimensions left of ``max_plate_nesting`` belong to enumeration and are not looked at.

    :param site: the record of a sample site whose ``log_prob`` is computed.
    :param max_plate_nesting: number of batch dimensions that plates may use; infinite for all.
    :param where: the statement's place in the source, if known.
    :raises ValueError: if a plate does not fit in ``max_plate_nesting``, or a dimension is not declared.
    """
    expected: list[int] = []
    for frame in site["cond_indep_stack"]:
        if frame.dim is None:
            continue
        if -frame.dim > max_plate_nesting:
            raise ValueError(
                message(
                    f"max_plate_nesting={max_plate_nesting} is too small for plate '{frame.name}'",
                    site=site["name"],
                    plates=site["cond_indep_stack"],
                    expected=f"max_plate_nesting >= {-frame.dim}",
                    actual=f"a plate at dim={frame.dim}",
                    fix=f"give the ELBO max_plate_nesting={-frame.dim}, or the plate a dim further right",
                    where=where,
                )
            )
        expected = [1] * (-frame.dim - len(expected)) + expected
        # A plate without size takes any.
        expected[frame.dim] = -1 if frame.size is None else int(frame.size)
    actual = list(site["log_prob"].shape)
    if len(actual) > max_plate_nesting:
        actual = actual[len(actual) - int(max_plate_nesting) :] if max_plate_nesting else []
    length = max(len(actual), len(expected))
    actual = [1] * (length - len(actual)) + actual
    declared = [1] * (length - len(expected)) + expected
    wrong = [dim for dim in range(-length, 0) if declared[dim] not in (-1, actual[dim])]
    if wrong:
        _refuse(site, actual, declared, wrong, where)


def _refuse(site: Any, actual: list[int], declared: list[int], wrong: list[int], where: str | None) -> None:
    name, dim = site["name"], wrong[-1]
    if declared[dim] == 1:
        fixes = [f"declare the dimension by plate('...', {actual[dim]}, dim={dim})"]
        # `to_event` takes dims from the right, so it is an answer only if it takes no plate's dim.
        if all(size == 1 for size in declared[dim:]):
            fixes.insert(0, f"make it part of the event by .to_event({-dim})")
    else:
        fixes = ["let the log probability have the size of the plate"]
    raise ValueError(
        message(
            f"invalid log_prob shape at site '{name}'",
            site=name,
            plates=site["cond_indep_stack"],
            expected=f"{_shape_text(declared)}, as the plates declare",
            actual=f"{_shape_text(actual)}, different at dim {', '.join(map(str, wrong))}",
            fix=", or ".join(fixes),
            where=where,
        )
    )


def _shape_text(shape: list[int]) -> str:
    return (
        "("
        + ", ".join("any" if size == -1 else str(size) for size in shape)
        + ("," * (len(shape) == 1))
        + ")"
    )


def as_obs_mask(name: str, obs_mask: Any) -> torch.Tensor:
    """Return the mask of a partly observed site as a bool tensor.

    :raises ValueError: if it is neither a bool nor a bool tensor.
    """
    if isinstance(obs_mask, bool):
        obs_mask = torch.tensor(obs_mask)
    if not isinstance(obs_mask, torch.Tensor) or obs_mask.dtype != torch.bool:
        raise ValueError(
            message(
                f"Invalid obs_mask at site '{name}'",
                site=name,
                expected="a bool or a tensor of dtype torch.bool",
                actual=repr(obs_mask),
                fix="use obs_mask.bool()",
            )
        )
    return obs_mask


def masked_batch_shape(name: str, fn: Any, obs_mask: torch.Tensor) -> torch.Size:
    """Return the batch shape of a partly observed site inside the enclosing plates.

    :raises TypeError: if ``fn`` is not a distribution.
    :raises ValueError: if the mask does not broadcast to that shape.
    """
    if not hasattr(fn, "batch_shape"):
        raise TypeError(
            message(
                f"obs_mask at site '{name}' needs a distribution",
                site=name,
                expected="a distribution with a batch_shape",
                actual=f"{fn!r}",
                fix="pass a distribution, or leave obs_mask out",
            )
        )
    batch_shape = _plated_batch_shape(fn.batch_shape)
    try:
        compatible = broadcast_shape(obs_mask.shape, batch_shape) == batch_shape
    except ValueError:
        compatible = False
    if not compatible:
        raise ValueError(
            message(
                f"Invalid obs_mask shape {tuple(obs_mask.shape)} at site '{name}'",
                site=name,
                plates=get_plates(),
                expected=f"a shape that broadcasts to the batch shape {tuple(batch_shape)}",
                actual=tuple(obs_mask.shape),
                fix="give the mask one element for each batch element, event dimensions left out",
            )
        )
    return batch_shape


def _plated_batch_shape(batch_shape: torch.Size) -> torch.Size:
    """Return the batch shape that a site here will have once the enclosing plates have expanded it."""
    shape = list(batch_shape)
    for frame in get_plates():
        if frame.dim is None or frame.size == -1:
            continue
        shape = [1] * (-frame.dim - len(shape)) + shape
        if shape[frame.dim] == 1:
            shape[frame.dim] = int(frame.size)
    return torch.Size(shape)
