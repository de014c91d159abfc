"""Split a site into parts along an event dim, so that they can be treated differently."""

from __future__ import annotations

from collections.abc import Sequence

import torch

from ember.distributions import ImproperUniform
from ember.errors import message
from ember.guides.reparam.refusal import kept
from ember.guides.reparam.reparam import Reparam
from ember.poutine.reparam_messenger import ReparamMessage, ReparamResult
from ember.primitives import sample


class SplitReparam(Reparam):
    """Make sites ``NAME_split_0``, ``NAME_split_1``, … of flat density, which the site joins.

    The site keeps its density. The parts cannot be drawn from the prior: for inference only, with a guide
    or starting values.

    :param sections: sizes of the parts, as in ``torch.split``, or one size for all.
    :param dim: a negative number, one of the site's event dims, whose elements are free of each other.
    :raises ValueError: if it is not negative.
    """

    def __init__(self, sections: int | Sequence[int], dim: int) -> None:
        if not dim < 0:
            raise ValueError(f"dim must be negative, got {dim}")
        self.sections = sections if isinstance(sections, int) else list(sections)
        self.dim = dim

    def apply(self, msg: ReparamMessage) -> ReparamResult:
        """Rewrite the site; observed sites stay as they are.

        :raises ValueError: if the dim is no event dim, or the sections do not add up to its size.
        """
        if msg["is_observed"]:
            return kept(msg)
        name, fn = msg["name"], msg["fn"]
        size = fn.event_shape[self.dim] if -self.dim <= fn.event_dim else None
        sizes = self.sections
        if isinstance(sizes, int):
            whole = size or 0
            sizes = [min(sizes, whole - start) for start in range(0, whole, sizes)]
        if size is None or sum(sizes) != size:
            raise ValueError(
                message(
                    f"SplitReparam cannot split site '{name}'",
                    site=name,
                    expected=f"an event dim {self.dim} of size {sum(sizes)}",
                    actual=f"event_shape {tuple(fn.event_shape)}",
                )
            )
        given = [None] * len(sizes) if msg["value"] is None else msg["value"].split(sizes, self.dim)
        parts = []
        for index, (part_size, start) in enumerate(zip(sizes, given, strict=True)):
            shape = list(fn.event_shape)
            shape[self.dim] = part_size
            flat = ImproperUniform(fn.support, fn.batch_shape, torch.Size(shape))
            parts.append(sample(f"{name}_split_{index}", flat, obs=start, infer={"is_observed": False}))
        return {"fn": fn, "value": torch.cat(parts, self.dim), "is_observed": True}
