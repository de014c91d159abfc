"""Set the scene for evaluations of a density: double precision, no validation, constants promoted."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from contextlib import contextmanager
from typing import Any

import torch
from torch.overrides import TorchFunctionMode
from torch.utils._pytree import tree_map

from ember import settings


@contextmanager
def double_precision(promote: bool = False, validate: bool = False) -> Iterator[None]:
    """Make float64 the default dtype inside, and switch validation off unless ``validate``.

    :param promote: also raise float32 arguments of every torch function to float64, for models that mix their own
        float32 tensors with values in operations that do not promote, such as matrix products.
    """
    before = torch.get_default_dtype()
    torch.set_default_dtype(torch.float64)
    try:
        with settings.context(**_FLAGS) if not validate else _nothing():
            if promote:
                with PromoteToDouble():
                    yield
            else:
                yield
    finally:
        torch.set_default_dtype(before)


_FLAGS = dict.fromkeys(
    (
        "validate_distributions_torch",
        "validate_distributions_pyro",
        "validate_infer",
        "validate_poutine",
    ),
    False,
)


@contextmanager
def _nothing() -> Iterator[None]:
    yield


class PromoteToDouble(TorchFunctionMode):
    """Raise float32 arguments of torch functions to float64."""

    def __torch_function__(
        self,
        func: Callable[..., Any],
        types: Any,
        args: tuple[Any, ...] = (),
        kwargs: dict[str, Any] | None = None,
    ) -> Any:
        name = getattr(func, "__name__", "")
        # Attributes have nothing to promote, and in-place operations keep the dtype of what they change.
        if name in ("__get__", "__set__", "__setitem__") or (name.endswith("_") and not name.endswith("__")):
            return func(*args, **(kwargs or {}))
        args, kwargs = tree_map(to_double, (args, kwargs or {}))
        return func(*args, **kwargs)


def to_double(leaf: Any) -> Any:
    """Return float32 and half tensors as float64, and everything else as it is."""
    if isinstance(leaf, torch.Tensor) and leaf.dtype in (torch.float32, torch.float16, torch.bfloat16):
        return leaf.to(torch.float64)
    return leaf
