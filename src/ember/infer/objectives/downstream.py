"""Sum terms of a log probability over the plates that a site does not share."""

from __future__ import annotations

from typing import Any

from torch import Tensor

from ember.poutine.runtime import CondIndepStackFrame


class DownstreamSum:
    """A sum of batched terms, each with its plates, reducible to any site's plates.

    Elements of a plate are independent of each other, so that a site's cost leaves out the terms of other
    elements (Rao-Blackwellisation; Ranganath, Gerrish & Blei 2014, arXiv 1401.0118).
    """

    def __init__(self) -> None:
        self._terms: dict[frozenset[CondIndepStackFrame], Any] = {}

    def add(self, plates: tuple[CondIndepStackFrame, ...], term: Any) -> None:
        """Add ``term``, of a batch shape that fits the vectorised ones among ``plates``."""
        frames = frozenset(plates)
        known = self._terms.get(frames)
        self._terms[frames] = term if known is None else known + term

    def sum_to(self, plates: tuple[CondIndepStackFrame, ...]) -> Any:
        """Return the sum reduced to the dims of ``plates`` (the number 0.0 if there are no terms)."""
        target = set(plates)
        iterations = {frame.name: frame.counter for frame in plates if not frame.vectorized}
        total: Any = 0.0
        for frames, term in self._terms.items():
            if any(iterations.get(frame.name, frame.counter) != frame.counter for frame in frames):
                continue  # another iteration of the same sequential plate
            if isinstance(term, Tensor):
                term = _reduce(term, [frame.dim for frame in frames - target if frame.dim is not None])
            total = total + term
        return total


def _reduce(term: Tensor, dims: list[int]) -> Tensor:
    present = [dim for dim in dims if -dim <= term.ndim]
    if present:
        term = term.sum(present, keepdim=True)
    while term.ndim and term.shape[0] == 1:
        term = term.squeeze(0)
    return term
