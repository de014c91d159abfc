"""Bring draws and the values of runs to each other's shapes, for prediction."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Iterator
from typing import Any

import torch
from torch import Tensor

from ember.errors import message
from ember.poutine import condition, mask, trace
from ember.poutine.plate_messenger import PlateMessenger
from ember.poutine.trace_struct import Trace

_PLATE = "_num_predictive_samples"


def common_lead(samples: dict[str, Any], batch_ndims: int) -> torch.Size | None:
    """Return the common leading shape of posterior draws, None if there are none."""
    shape: torch.Size | None = None
    first = ""
    for name, value in samples.items():
        if not isinstance(value, Tensor) or value.ndim < batch_ndims:
            raise ValueError(
                message(
                    f"posterior_samples['{name}'] has no dimension of draws",
                    site=name,
                    expected=f"a tensor with {batch_ndims} leading dimension(s) of draws",
                    actual=f"shape {tuple(value.shape)}" if isinstance(value, Tensor) else repr(value),
                )
            )
        if shape is None:
            shape, first = value.shape[:batch_ndims], name
        elif value.shape[:batch_ndims] != shape:
            raise ValueError(
                message(
                    f"posterior_samples disagree about the number of draws: '{first}' and '{name}'",
                    site=name,
                    expected=f"leading shape {tuple(shape)}, as '{first}' has",
                    actual=f"leading shape {tuple(value.shape[:batch_ndims])}",
                )
            )
    return shape


def run_prototype(model: Callable[..., Any], args: tuple[Any, ...], kwargs: dict[str, Any]) -> Trace:
    """Run the model once for the shapes of its sites."""
    with torch.no_grad():
        return without_minibatches(trace(mask(model, mask=False)).get_trace(*args, **kwargs))


def without_minibatches(run: Trace) -> Trace:
    for name, site in list(run.nodes.items()):
        if site["type"] == "sample" and type(site["fn"]).__name__ == "_Subsample":
            run.remove_node(name)
    return run


def sample_sites(run: Trace) -> dict[str, Any]:
    return {name: site for name, site in run.nodes.items() if site["type"] == "sample"}


def batch_shape_of(site: Any) -> torch.Size:
    """Return the batch shape of a site."""
    return torch.Size(getattr(site["fn"], "batch_shape", ()))


def plate_nesting(prototype: Trace) -> int:
    """Return the number of dimensions that the model's plates take."""
    dims = [
        -frame.dim
        for site in sample_sites(prototype).values()
        for frame in site["cond_indep_stack"]
        if frame.dim is not None
    ]
    return max(dims, default=0)


def missing_dims(prototype: Trace, name: str, nesting: int) -> int:
    site = prototype.nodes.get(name)
    if site is None or site["type"] != "sample":
        return 0
    return max(nesting - len(batch_shape_of(site)), 0)


def fit_to_site(value: Tensor, site: Any) -> Tensor:
    """Take off (or add) dimensions of size one, so that a draw has the shape of its site."""
    shape = getattr(site["value"], "shape", None) if site is not None else None
    if shape is not None and value.shape != shape and value.numel() == shape.numel():
        return value.reshape(shape)
    return value


def tensor_value(run: Trace, name: str) -> Tensor:
    value = run.nodes[name]["value"]
    return value if isinstance(value, Tensor) else torch.as_tensor(value)


def stack_draws(name: str, values: list[Tensor]) -> Tensor:
    shapes = {tuple(value.shape) for value in values}
    if len(shapes) != 1:
        raise ValueError(
            message(
                f"site '{name}' has different shapes in different draws, so that they cannot be stacked",
                site=name,
                expected="one shape",
                actual=", ".join(map(str, sorted(shapes))),
                fix="leave the site out by return_sites",
            )
        )
    return torch.stack(values)


def chunks(
    samples: dict[str, Tensor], total: int, size: int | None
) -> Iterator[tuple[int, dict[str, Tensor]]]:
    """Cut draws into parts of at most ``size``, and yield the number in each with its draws."""
    step = total if size is None else size
    for start in range(0, total, step):
        part = {name: value[start : start + step] for name, value in samples.items()}
        yield min(step, total - start), part


def join_chunks(parts: Iterable[dict[str, Tensor]]) -> dict[str, Tensor]:
    """Put results of parts of the draws together along the first dim."""
    columns: dict[str, list[Tensor]] = {}
    for part in parts:
        for name, value in part.items():
            columns.setdefault(name, []).append(value)
    return {name: values[0] if len(values) == 1 else torch.cat(values) for name, values in columns.items()}


def vectorized(
    model: Callable[..., Any], samples: dict[str, Tensor], count: int, prototype: Trace
) -> Callable[..., Any]:
    """Return the model under an outermost plate of ``count`` draws, latent values taken from ``samples``."""
    dim = max(
        [plate_nesting(prototype), *(len(batch_shape_of(site)) for site in sample_sites(prototype).values())]
    )
    values = {}
    for name, value in samples.items():
        site = prototype.nodes.get(name)
        if site is None:
            values[name] = value
            continue
        shape = tuple(site["value"].shape)
        ones = (1,) * max(dim - len(batch_shape_of(site)), 0)
        whole = (count, *ones, *shape)
        values[name] = value.reshape(whole) if value.numel() == torch.Size(whole).numel() else value
    plate = PlateMessenger(_PLATE, count, dim=-dim - 1)

    def run(*args: Any, **kwargs: Any) -> Any:
        with plate:
            return model(*args, **kwargs)

    return condition(run, data=values)


def with_draws(value: Tensor, lead: tuple[int, ...], shape: torch.Size) -> Tensor:
    """Bring a value of a vectorised run to ``lead + shape``, repeated if it is the same for all draws."""
    whole = torch.Size(lead + tuple(shape))
    return value.reshape(whole) if value.numel() == whole.numel() else value.reshape(shape).expand(whole)
