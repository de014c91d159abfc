"""Tabulate what warmup does after each of its draws.

A schedule is data, a row per draw: a run scans over its rows, and a chunk of a run over a slice of them.
"""

from __future__ import annotations

import math
from typing import NamedTuple

import torch
from torch import Tensor


class Schedule(NamedTuple):
    """For each warmup draw what happens after it; bool tensors ``[num_warmup]``, or scalars for one row."""

    collect: Tensor  # the draw is added to the foreground estimator
    collect_background: Tensor  # and to the background estimator
    update: Tensor  # the metric is estimated anew from the foreground
    switch: Tensor  # the background becomes the foreground, and an empty one the background
    restart: Tensor  # the search for a step size starts anew
    finish: Tensor  # the averaged step size becomes the one to sample with

    def rows(self, start: int, stop: int) -> Schedule:
        """Return the rows of draws ``start`` to ``stop`` − 1, to run warmup in chunks."""
        return Schedule(*(column[start:stop] for column in self))

    def padded(self, num_rows: int) -> Schedule:
        """Return ``num_rows`` rows, those beyond the schedule's own with nothing to do."""
        missing = num_rows - self.collect.shape[0]
        return Schedule(*(torch.cat([column, column.new_zeros(missing)]) for column in self))

    @staticmethod
    def idle(num_rows: int) -> Schedule:
        """Return rows with nothing to do."""
        return Schedule(*(torch.zeros(num_rows, dtype=torch.bool) for _ in Schedule._fields))


def step_size_only(num_warmup: int) -> Schedule:
    """Adapt the step size all along, and never the metric."""
    return _schedule(num_warmup)


def stan(num_warmup: int) -> Schedule:
    """Follow Stan's windows: see :func:`stan_windows`; the metric stays as it is if there is one only."""
    windows = stan_windows(num_warmup)
    if len(windows) < 3:
        return _schedule(num_warmup)
    ends = [last for _, last in windows[1:-1]]
    collect = range(windows[1][0], windows[-1][0])
    return _schedule(num_warmup, collect=collect, update=ends, switch=ends, restart=ends)


def stan_windows(num_warmup: int) -> list[tuple[int, int]]:
    """Return first and last draws of Stan's windows: a start, estimates that double, an end.

    75, 25, 50, 100, … and 50 draws; the last window of estimates takes what is left. Below 150 draws the
    start is 15% and the end 10% of them, with one window between; below 20 there is one window in all. (Stan
    reference manual, chapter *MCMC sampling*, section on automatic parameter tuning.)
    """
    if num_warmup < 20:
        return [(0, num_warmup - 1)] if num_warmup else []
    start, size, final = 75, 25, 50
    if start + size + final > num_warmup:
        start, final = int(0.15 * num_warmup), int(0.1 * num_warmup)
        size = num_warmup - start - final
    stop = num_warmup - final
    windows, begin = [(0, start - 1)], start
    while begin < stop:
        # A next window of twice the size must fit; else this one takes what is left.
        end = begin + size if begin + 3 * size <= stop else stop
        windows.append((begin, end - 1))
        begin, size = end, 2 * size
    return [*windows, (stop, num_warmup - 1)]


def fisher(
    num_warmup: int,
    early_update_interval: int = 1,
    update_interval: int = 1,
    early_fraction: float = 0.3,
    final_fraction: float = 0.15,
    early_window: int = 10,
    window: int = 80,
    first_update: int = 4,
) -> Schedule:
    """Estimate the metric from the first draws on in overlapping windows, and leave it alone at the end.

    The background estimator replaces the foreground once it has seen a window's draws, so that the foreground
    always holds between one and two windows (Seyboldt, Carlson & Carpenter, arXiv 2603.18845). Windows are
    short in an early phase, while the chain may still be on its way. Below 10 draws the metric stays.

    :param num_warmup: number of warmup draws.
    :param early_update_interval: draws between estimates of the metric, early.
    :param update_interval: the same, later.
    :param early_fraction: part of the draws that counts as early.
    :param final_fraction: part of the draws at the end with the metric fixed.
    :param early_window: draws between switches of the estimators, early.
    :param window: the same, later.
    :param first_update: number of draws before the first estimate.
    """
    if num_warmup < 10:
        return _schedule(num_warmup)
    stop = num_warmup - math.ceil(final_fraction * num_warmup)
    early = math.ceil(early_fraction * num_warmup)
    updates, switches, seen = [], [], 0
    for index in range(stop):
        seen += 1
        size = early_window if index < early else window
        # No switch that would leave less than a window's draws behind the final metric.
        late = index >= early and index + size >= stop
        if seen >= size and not late:
            switches.append(index)
            seen = 0
        interval = early_update_interval if index < early else update_interval
        if index + 1 >= first_update and ((index + 1) % interval == 0 or index == stop - 1):
            updates.append(index)
    return _schedule(
        num_warmup, collect=range(stop), collect_background=range(stop), update=updates, switch=switches
    )


def mixed(num_warmup: int, early_update_interval: int = 1, update_interval: int = 1) -> Schedule:
    """Follow :func:`fisher` early, then keep one window, and adapt the step size anew to its metric."""
    table = fisher(num_warmup, early_update_interval, update_interval, window=num_warmup)
    last = table.collect & ~torch.cat([table.collect[1:], table.collect.new_zeros(1)])[:num_warmup]
    return table._replace(restart=last)


def _schedule(
    num_warmup: int,
    collect: range | list[int] = range(0),
    collect_background: range | list[int] = range(0),
    update: range | list[int] = range(0),
    switch: range | list[int] = range(0),
    restart: range | list[int] = range(0),
) -> Schedule:
    if num_warmup < 0:
        raise ValueError(f"the number of warmup draws must not be negative, got {num_warmup}")
    finish = [num_warmup - 1] if num_warmup else []
    columns = []
    for chosen in (collect, collect_background, update, switch, restart, finish):
        column = torch.zeros(num_warmup, dtype=torch.bool)
        column[list(chosen)] = True
        columns.append(column)
    return Schedule(*columns)
