"""Check that the batch dimensions of a site are declared by plates."""

from __future__ import annotations

from typing import Any

from ember.errors import message


def check_site_shape(site: Any, max_plate_nesting: float) -> None:
    """Raise unless every batch dimension of the site's log probability is a plate's, with the plate's size.

    Dimensions left of ``max_plate_nesting`` belong to enumeration and are not looked at.

    :param site: the record of a sample site whose ``log_prob`` is computed.
    :param max_plate_nesting: number of batch dimensions that plates may use; infinite for all.
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
        _refuse(site, actual, declared, wrong)


def _refuse(site: Any, actual: list[int], declared: list[int], wrong: list[int]) -> None:
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
        )
    )


def _shape_text(shape: list[int]) -> str:
    return (
        "("
        + ", ".join("any" if size == -1 else str(size) for size in shape)
        + ("," * (len(shape) == 1))
        + ")"
    )
