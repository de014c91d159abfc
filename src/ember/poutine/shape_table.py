"""Print the shapes of a trace's sites as an aligned table."""

from __future__ import annotations

from typing import Any


def format_shapes(nodes: dict[str, Any], title: str = "Trace Shapes:", last_site: str | None = None) -> str:
    """Return a table with a row for each distribution, value and log probability.

    Batch and event shapes stand on the two sides of a bar: ``name dist  10 3 | 2``.
    """
    if not nodes:
        return title
    rows: list[list[str | None]] = [[title]]
    rows.append(["Param Sites:"])
    for name, site in nodes.items():
        if site["type"] == "param":
            rows.append([name, None, *map(str, site["value"].shape)])
        if name == last_site:
            break
    rows.append(["Sample Sites:"])
    for name, site in nodes.items():
        if site["type"] == "sample":
            rows.extend(_sample_rows(name, site))
        if name == last_site:
            break
    return _align(rows)


def _sample_rows(name: str, site: Any) -> list[list[str | None]]:
    event_shape = tuple(getattr(site["fn"], "event_shape", ()))
    batch_shape = tuple(getattr(site["fn"], "batch_shape", ()))
    rows: list[list[str | None]] = []
    rows.append([f"{name} dist", None, *map(str, batch_shape), "|", *map(str, event_shape)])
    value_shape = tuple(getattr(site["value"], "shape", ()))
    split = max(0, len(value_shape) - len(event_shape))
    rows.append(["value", None, *map(str, value_shape[:split]), "|", *map(str, value_shape[split:])])
    if "log_prob" in site:
        rows.append(["log_prob", None, *map(str, site["log_prob"].shape), "|"])
    return rows


def _align(rows: list[list[str | None]]) -> str:
    """Right-align the cells; batch shapes end at the bar and event shapes begin there."""
    tables = [_split(row) for row in rows]
    head = max((len(label) for label, _, _ in tables if label is not None), default=0)
    left = max((len(batch) for _, batch, _ in tables), default=0)
    right = max((len(event or []) for _, _, event in tables), default=0)
    width = max((len(cell) for _, batch, event in tables for cell in [*batch, *(event or [])]), default=1)
    lines = []
    for label, batch, event in tables:
        text = (label or "").rjust(head)
        cells = [""] * (left - len(batch)) + batch
        text += "".join(" " + cell.rjust(width) for cell in cells)
        if event is not None:
            text += " |" + "".join(" " + cell.rjust(width) for cell in event + [""] * (right - len(event)))
        lines.append(text.rstrip())
    return "\n".join(lines)


def _split(row: list[str | None]) -> tuple[str | None, list[str], list[str] | None]:
    label, cells = row[0], [cell for cell in row[1:] if cell is not None]
    if "|" in cells:
        bar = cells.index("|")
        return label, cells[:bar], cells[bar + 1 :]
    return label, cells, None
