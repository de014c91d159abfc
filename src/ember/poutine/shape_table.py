"""Print the shapes of a trace's sites as an aligned table."""

from __future__ import annotations

from collections.abc import Container, Iterator, Sequence
from contextlib import contextmanager
from itertools import zip_longest
from typing import Any, NamedTuple


class _Row(NamedTuple):
    """A label with the sizes on both sides of the bar; without a bar if ``event`` is None."""

    label: str
    batch: list[str]
    event: list[str] | None = None


def format_shapes(nodes: dict[str, Any], title: str = "Trace Shapes:", last_site: str | None = None) -> str:
    """Return a table with a row for each param, distribution, value and log probability.

    Batch and event shapes stand on the two sides of a bar: ``name dist 10 3 | 2``. Sizes of enumeration dims
    carry a star: ``value 3* 10``.

    :param last_site: name of the last site to print; by default all are.
    """
    if not nodes:
        return title
    params, samples = [], []
    for name, site in nodes.items():
        if site["type"] == "param":
            params.append(_Row(name, _sizes(site["value"].shape)))
        elif site["type"] == "sample":
            samples.extend(_sample_rows(name, site))
        if name == last_site:
            break
    return _align([_Row(title, []), _Row("Param Sites:", []), *params, _Row("Sample Sites:", []), *samples])


@contextmanager
def shapes_in_errors(nodes: dict[str, Any]) -> Iterator[None]:
    """Append the table of shapes to a ValueError that is raised inside the ``with`` block."""
    try:
        yield
    except ValueError as error:
        raise ValueError(f"{error}\n{format_shapes(nodes)}") from error


def _sample_rows(name: str, site: Any) -> list[_Row]:
    event_shape = getattr(site["fn"], "event_shape", ())
    batch_shape = getattr(site["fn"], "batch_shape", ())
    value_shape = getattr(site["value"], "shape", ())
    split = max(0, len(value_shape) - len(event_shape))
    marked = site["infer"].get("_dim_to_id", ())
    rows = [
        _Row(f"{name} dist", _sizes(batch_shape, marked), _sizes(event_shape)),
        _Row("value", _sizes(value_shape[:split], marked), _sizes(value_shape[split:])),
    ]
    if "log_prob" in site:
        rows.append(_Row("log_prob", _sizes(site["log_prob"].shape, marked), []))
    return rows


def _sizes(shape: Sequence[int], marked: Container[int] = ()) -> list[str]:
    """Return the sizes as text, with a star after those at marked dims unless they are 1."""
    ndim = len(shape)
    return [
        f"{size}*" if size > 1 and axis - ndim in marked else str(size) for axis, size in enumerate(shape)
    ]


def _align(rows: list[_Row]) -> str:
    """Right-align the cells by column; batch shapes end at the bar and event shapes begin there."""
    left = max(len(row.batch) for row in rows)
    rows = [row._replace(batch=[""] * (left - len(row.batch)) + row.batch) for row in rows]
    head = max(len(row.label) for row in rows)
    batch_widths = _widths([row.batch for row in rows])
    event_widths = _widths([row.event or [] for row in rows])
    lines = []
    for row in rows:
        cells = [row.label.rjust(head), *_justified(row.batch, batch_widths)]
        if row.event is not None:
            cells += ["|", *_justified(row.event, event_widths)]
        lines.append(" ".join(cells).rstrip())
    return "\n".join(lines)


def _widths(rows: list[list[str]]) -> list[int]:
    return [max(map(len, column)) for column in zip_longest(*rows, fillvalue="")]


def _justified(cells: list[str], widths: list[int]) -> list[str]:
    return [cell.rjust(width) for cell, width in zip(cells, widths, strict=False)]
