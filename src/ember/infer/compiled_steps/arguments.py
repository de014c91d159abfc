"""Tell apart what varies in a model's arguments from step to step from what a program has to know."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

from torch import Tensor
from torch.utils._pytree import tree_flatten, tree_unflatten


class Arguments:
    """Arguments of a model, as the tensors that vary from step to step and everything else."""

    def __init__(self, args: tuple[Any, ...], kwargs: dict[str, Any]) -> None:
        self._structure: Any
        if kwargs or not all(type(arg) is Tensor for arg in args):
            leaves, self._structure = tree_flatten((args, kwargs))
        else:
            leaves, self._structure = list(args), len(args)
        self._rest = [None if isinstance(leaf, Tensor) else leaf for leaf in leaves]
        self._places = [i for i, leaf in enumerate(leaves) if isinstance(leaf, Tensor)]
        self.tensors: list[Tensor] = [leaves[i] for i in self._places]

    @property
    def rest(self) -> list[Any]:
        """What is not a tensor."""
        return [each for i, each in enumerate(self._rest) if i not in set(self._places)]

    @property
    def description(self) -> str:
        """A text that is the same in every process for arguments of the same kind."""
        tensors = [(str(each.dtype), tuple(each.shape)) for each in self.tensors]
        return repr(
            (str(self._structure), self._places, tensors, [type(each).__name__ for each in self.rest])
        )

    def alike(self, other: Arguments) -> bool:
        """Whether a program for these arguments serves for others."""
        return (
            self._structure == other._structure
            and self._places == other._places
            and all(map(_equal, self._rest, other._rest))
            and all(
                one.shape == two.shape and one.dtype == two.dtype and not two.requires_grad
                for one, two in zip(self.tensors, other.tensors, strict=True)
            )
        )

    def with_tensors(self, tensors: Sequence[Tensor]) -> tuple[tuple[Any, ...], dict[str, Any]]:
        """Return args and kwargs with other tensors."""
        leaves = list(self._rest)
        for place, tensor in zip(self._places, tensors, strict=True):
            leaves[place] = tensor
        if isinstance(self._structure, int):
            return tuple(leaves), {}
        args, kwargs = tree_unflatten(leaves, self._structure)
        return args, kwargs


def _equal(one: Any, other: Any) -> bool:
    if one is other:
        return True
    return type(one) is type(other) and isinstance(one, (bool, int, float, str)) and bool(one == other)
