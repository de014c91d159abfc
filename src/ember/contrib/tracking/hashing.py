"""Find points that lie near each other by hashing them into boxes."""

from __future__ import annotations

import itertools
from collections import defaultdict
from typing import Any

import torch
from torch import Tensor

from ember.errors import message

Box = tuple[int, ...]


class LSH:
    """A map from keys to points, in which the neighbours of a point are found fast.

    Points are neighbours if their boxes, of side ``radius``, are the same or touch: all pairs closer than the
    radius are, and none farther apart than twice the radius in any dim. Gionis, Indyk & Motwani (1999),
    Similarity search in high dimensions via hashing.

    :param radius: the radius.
    :raises ValueError: unless it is a positive number.

    >>> import torch
    >>> points = LSH(radius=1.0)
    >>> points.add("a", torch.tensor([0.0, 0.0]))
    >>> points.add("b", torch.tensor([0.8, 0.1]))
    >>> points.nearby("a")
    {'b'}
    """

    def __init__(self, radius: float) -> None:
        self._radius = _checked(radius)
        self._boxes: dict[Box, set[Any]] = defaultdict(set)
        self._box_of: dict[Any, Box] = {}

    def add(self, key: Any, point: Tensor) -> None:
        """Add a point, in place of what its key stood for before.

        :param key: any hashable object.
        :param point: of one dim.
        """
        if key in self._box_of:
            self.remove(key)
        box = box_of(point, self._radius)
        self._box_of[key] = box
        self._boxes[box].add(key)

    def remove(self, key: Any) -> None:
        """Remove a point.

        :raises KeyError: if there is no such key.
        """
        box = self._box_of.pop(key)
        self._boxes[box].remove(key)
        if not self._boxes[box]:
            del self._boxes[box]

    def nearby(self, key: Any) -> set[Any]:
        """Return the keys of the point's neighbours, without its own.

        :raises KeyError: if there is no such key.
        """
        found: set[Any] = set()
        for box in itertools.product(*[(i - 1, i, i + 1) for i in self._box_of[key]]):
            found |= self._boxes.get(box, set())
        return found - {key}


class ApproxSet:
    """A set that holds at most one point in each box of side ``radius``.

    :param radius: side of the boxes.
    :raises ValueError: unless it is a positive number.
    """

    def __init__(self, radius: float) -> None:
        self._radius = _checked(radius)
        self._boxes: set[Box] = set()

    def try_add(self, point: Tensor) -> bool:
        """Add a point unless there is one in its box already; return whether it was added."""
        box = box_of(point, self._radius)
        if box in self._boxes:
            return False
        self._boxes.add(box)
        return True


def merge_points(points: Tensor, radius: float) -> tuple[Tensor, list[tuple[int, ...]]]:
    """Merge points that lie closer together than a radius, greedily, and return their means.

    :param points: ``(K, D)``.
    :param radius: the radius.
    :return: the means of the groups, ``(number of groups, D)``, and the indices of each group's points.
    :raises ValueError: if the points have another shape, or the radius is not positive.
    """
    _checked(radius)
    if points.dim() != 2:
        raise ValueError(message("Points have a wrong shape.", expected="(K, D)", actual=tuple(points.shape)))
    if not len(points):
        return points, []
    with torch.no_grad():
        near = LSH(radius)
        groups: dict[int, tuple[int, ...]] = {i: (i,) for i in range(len(points))}
        centres = dict(enumerate(points))
        for i in list(groups):
            near.add(i, centres[i])
        waiting = list(groups)
        while waiting:
            i = waiting.pop()
            if i not in groups:
                continue
            others = sorted(near.nearby(i))
            close = next((j for j in others if (centres[i] - centres[j]).norm() < radius), None)
            if close is None:
                continue
            groups[i] += groups.pop(close)
            near.remove(close)
            centres[i] = points[list(groups[i])].mean(0)
            near.add(i, centres[i])
            waiting.append(i)
    merged = list(groups.values())
    return torch.stack([points[list(each)].mean(0) for each in merged]), merged


def box_of(point: Tensor, radius: float) -> Box:
    """Return the indices of the box of side ``radius`` in which a point lies.

    :raises ValueError: if the point does not have one dim.
    """
    if point.dim() != 1:
        raise ValueError(message("A point has a wrong shape.", expected="(D,)", actual=tuple(point.shape)))
    return tuple(int(i) for i in (point / radius).round().tolist())


def _checked(radius: float) -> float:
    if not isinstance(radius, int | float) or not radius > 0:
        raise ValueError(message("A radius is wrong.", expected="a number > 0", actual=radius))
    return float(radius)
