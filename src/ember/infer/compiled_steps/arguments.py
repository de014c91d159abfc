"""Tell apart what varies in a model's arguments from step to step from what a program has to know."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import torch
from torch import Tensor
from torch.utils._pytree import tree_flatten, tree_unflatten

_MOST_INTEGERS = 4096  # in a tensor whose values may be part of a program


class Arguments:
    """Arguments of a model, as the tensors that vary from step to step and everything else.

    :param fix_integers: count small tensors of integers and truth values among what does not vary.
    :param lift_floats: count floats among the tensors that vary, with the default dtype.
    """

    def __init__(
        self,
        args: tuple[Any, ...],
        kwargs: dict[str, Any],
        fix_integers: bool = False,
        lift_floats: bool = False,
    ) -> None:
        self._form = (fix_integers, lift_floats)
        self._forms: dict[tuple[bool, bool], Arguments] = {}  # these arguments in other forms
        self._structure: Any
        if kwargs or not all(type(arg) is Tensor for arg in args):
            leaves, self._structure = tree_flatten((args, kwargs))
        else:
            leaves, self._structure = list(args), len(args)
        if lift_floats:
            leaves = [torch.tensor(leaf) if isinstance(leaf, float) else leaf for leaf in leaves]
        varies = [isinstance(leaf, Tensor) and not (fix_integers and _is_small(leaf)) for leaf in leaves]
        self._rest = [None if vary else leaf for leaf, vary in zip(leaves, varies, strict=True)]
        self._places = [i for i, vary in enumerate(varies) if vary]
        self.tensors: list[Tensor] = [leaves[i] for i in self._places]

    def with_fixed_integers(self) -> Arguments | None:
        """Return these arguments with copies of small tensors of integers fixed, None if there are none."""
        args, kwargs = self.with_tensors([each.clone() if _is_small(each) else each for each in self.tensors])
        fixed = Arguments(args, kwargs, True, self._form[1])
        return fixed if len(fixed.tensors) < len(self.tensors) else None

    def with_lifted_floats(self) -> Arguments | None:
        """Return these arguments with floats as tensors that vary, None if there are none."""
        if not any(isinstance(each, float) for each in self._rest):
            return None
        return self._in_form((self._form[0], True))

    def in_form_of(self, other: Arguments) -> Arguments:
        """Return these arguments with what is fixed or lifted in ``other`` fixed or lifted, too."""
        return self._in_form(other._form)

    def _in_form(self, form: tuple[bool, bool]) -> Arguments:
        if form == self._form:
            return self
        if form not in self._forms:
            self._forms[form] = Arguments(*self.with_tensors(self.tensors), *form)
        return self._forms[form]

    @property
    def lifts_floats(self) -> bool:
        """Whether floats count among the tensors that vary."""
        return self._form[1]

    @property
    def rest(self) -> list[Any]:
        """What is not a tensor."""
        places = set(self._places)
        return [each for i, each in enumerate(self._rest) if i not in places]

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


def _is_small(tensor: Any) -> bool:
    return not (tensor.is_floating_point() or tensor.is_complex()) and tensor.numel() <= _MOST_INTEGERS


def _equal(one: Any, other: Any) -> bool:
    if one is other:
        return True
    if isinstance(one, Tensor) and isinstance(other, Tensor):
        return one.shape == other.shape and one.dtype == other.dtype and bool(one.equal(other))
    return type(one) is type(other) and isinstance(one, (bool, int, float, str)) and bool(one == other)
