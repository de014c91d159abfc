"""Lay the latent sites of a model out on a flat unconstrained vector."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any

import torch
from torch import Tensor
from torch.distributions import constraints
from torch.distributions.transforms import Transform

from ember.errors import message
from ember.model.inspection import bijection


@dataclass(frozen=True, eq=False)
class Block:
    """The stretch of the vector that belongs to one site."""

    name: str
    start: int
    shape: torch.Size  # of the unconstrained value
    constrained_shape: torch.Size
    transform: Transform | None  # unconstrained → constrained; None for the identity
    dynamic: bool  # the support depends on other sites: the transform is made anew in each evaluation
    dtype: torch.dtype  # of the model's values
    dims: tuple[str | None, ...] = ()  # names of the constrained dimensions, where plates give them

    @property
    def size(self) -> int:
        """Number of elements."""
        return self.shape.numel()

    @property
    def stop(self) -> int:
        """Index after the last element."""
        return self.start + self.size


class Layout:
    """All blocks, in the order of the sites; the vector has ``size`` elements."""

    def __init__(self, blocks: Sequence[Block]) -> None:
        self.blocks: dict[str, Block] = {block.name: block for block in blocks}
        self.sizes = [block.size for block in blocks]
        self.size = sum(self.sizes)
        self.dynamic = any(block.dynamic for block in blocks)

    def split(self, z: Tensor) -> dict[str, Tensor]:
        """Return the unconstrained values by site; leading dimensions of ``z`` stay."""
        lead = z.shape[:-1]
        pieces = torch.split_with_sizes(z, self.sizes, -1) if len(self.sizes) > 1 else (z,)
        return {
            name: piece if len(block.shape) == 1 else piece.reshape(lead + block.shape)
            for (name, block), piece in zip(self.blocks.items(), pieces, strict=True)
        }

    def join(self, values: Mapping[str, Any]) -> Tensor:
        """Return the vector of unconstrained values by site, float64 ``[..., size]``.

        :raises ValueError: for missing or unknown sites, or a wrong shape.
        """
        self._check_names(values)
        parts = []
        for name, block in self.blocks.items():
            value = torch.as_tensor(values[name], dtype=torch.float64).detach()
            lead = value.ndim - len(block.shape)
            if lead < 0 or value.shape[lead:] != block.shape:
                raise ValueError(
                    message(
                        f"the unconstrained value of site '{name}' has the wrong shape",
                        site=name,
                        expected=f"shape {tuple(block.shape)}, with chains in front if there are several",
                        actual=f"shape {tuple(value.shape)}",
                    )
                )
            parts.append(value.reshape((*value.shape[:lead], block.size)))
        return torch.cat(parts, -1)

    def _check_names(self, values: Mapping[str, Any]) -> None:
        if set(values) != set(self.blocks):
            missing = [name for name in self.blocks if name not in values]
            unknown = [name for name in values if name not in self.blocks]
            raise ValueError(
                message(
                    "values are needed for each latent site, and for no other",
                    expected=", ".join(self.blocks),
                    actual="; ".join(
                        text
                        for text, names in (("missing", missing), ("unknown", unknown))
                        for text in ([f"{text}: {', '.join(names)}"] if names else [])
                    ),
                )
            )

    def transform_static(self, z: Tensor) -> dict[str, Tensor]:
        """Return constrained values by site, batched, for a layout without dynamic supports."""
        values = self.split(z)
        for name, block in self.blocks.items():
            if block.transform is not None:
                values[name] = block.transform(values[name])
        return values

    def cast(self, values: dict[str, Tensor]) -> dict[str, Tensor]:
        """Return constrained values in the dtypes of the model."""
        return {name: value.to(self.blocks[name].dtype) for name, value in values.items()}


def transform_of(support: Any, name: str) -> Transform | None:
    """Return the map from unconstrained space onto ``support``, None if it is the identity.

    Its log-determinant is to be summed over all dimensions, so wrappers that only say which belong to an
    event are left out.

    :raises ValueError: if no bijection is known.
    """
    while isinstance(support, constraints.independent):
        support = support.base_constraint
    if support is constraints.real or type(support) is type(constraints.real):
        return None
    transform: Transform = bijection(support, name)
    return transform
