"""Choose a minibatch of a plate, scale the sites inside and slice their params and data."""

from __future__ import annotations

from typing import Any

import torch

from ember import settings
from ember.distributions import Distribution
from ember.errors import message
from ember.poutine.indep_messenger import IndepMessenger
from ember.poutine.runtime import CondIndepStackFrame, Message, apply_stack, new_message


class _Subsample(Distribution):
    """Draw a minibatch of indices without replacement; its log probability is zero.

    :param size: number of elements.
    :param subsample_size: number of them to draw; all of them in order if it equals ``size``.
    """

    has_rsample = False

    def __init__(
        self,
        size: Any,
        subsample_size: Any,
        use_cuda: bool | None = None,
        device: torch.device | str | None = None,
    ) -> None:
        self.size = size
        self.subsample_size = subsample_size
        self.device = "cuda" if use_cuda else device

    def __call__(self, *args: Any, **kwargs: Any) -> torch.Tensor:
        return self.sample()

    def sample(self, sample_shape: Any = ()) -> torch.Tensor:
        """Draw the indices, a long tensor of shape ``(subsample_size,)``."""
        if sample_shape:
            raise ValueError("a minibatch of indices is drawn one at a time, without sample_shape")
        size, subsample_size = int(self.size), int(self.subsample_size)
        if subsample_size >= size:
            return torch.arange(size, dtype=torch.long, device=self.device)
        return torch.randperm(size, dtype=torch.long)[:subsample_size].to(self.device)

    def log_prob(self, x: Any, *args: Any, **kwargs: Any) -> torch.Tensor:
        """Return zero: minibatches are accounted for by the scale of the plate."""
        return torch.zeros(())


class SubsampleMessenger(IndepMessenger):
    """A plate whose minibatch of indices is drawn when it is made.

    :param name: name of the plate, and of the site that draws the indices.
    :param size: full size; None only claims a dimension.
    :param subsample_size: size of the minibatch.
    :param subsample: the indices themselves, anything with ``len``.
    :raises ValueError: for sizes that are not positive, too large, or contradict each other.
    """

    def __init__(
        self,
        name: str,
        size: Any = None,
        subsample_size: Any = None,
        subsample: Any = None,
        dim: int | None = None,
        use_cuda: bool | None = None,
        device: torch.device | str | None = None,
    ) -> None:
        super().__init__(name, size, dim, device)
        _check_sizes(name, size, subsample_size, subsample)
        if size is None:
            self.size = self.subsample_size = -1
            return
        if subsample is not None:
            subsample_size = len(subsample)
        elif subsample_size is None:
            subsample_size = size
        drawn = apply_stack(
            new_message("sample", name, _Subsample(size, subsample_size, use_cuda, device), value=subsample)
        )["value"]
        if len(drawn) != subsample_size:
            raise ValueError(
                message(
                    f"subsample_size of plate '{name}' does not match the length of its indices",
                    site=name,
                    expected=f"{subsample_size} indices",
                    actual=f"{len(drawn)} indices",
                    fix="use the same subsample_size in the model and the guide",
                )
            )
        self.subsample_size = subsample_size
        self._indices = drawn if isinstance(drawn, torch.Tensor) else torch.as_tensor(drawn, device=device)
        # A tensor size, as a jit passes it, is compared as a number but scales as a tensor.
        self._factor = None if int(subsample_size) == int(size) else size / subsample_size

    _factor: Any = None

    def _make_frame(self) -> CondIndepStackFrame:
        return CondIndepStackFrame(self.name, self.dim, self.subsample_size, self.counter, self.size)

    def _process_message(self, msg: Message) -> None:
        msg["cond_indep_stack"] = (self.plate_frame, *msg["cond_indep_stack"])  # type: ignore[arg-type]
        if self._factor is not None:
            msg["scale"] = msg["scale"] * self._factor

    def _postprocess_message(self, msg: Message) -> None:
        if self.dim is None or msg["type"] not in ("param", "subsample"):
            return
        event_dim = msg["kwargs"].get("event_dim")
        if event_dim is None or (isinstance(self.size, int) and self.size == -1):
            return
        value = msg["value"]
        dim = self.dim - event_dim
        if value.ndim < -dim or value.shape[dim] == 1:
            return
        if value.shape[dim] != self.size:
            if settings.read("validate_poutine"):
                self._refuse_shape(msg, dim, event_dim)
            return
        if self._factor is None:
            return
        sliced = value.index_select(dim, self.indices.to(value.device))
        if msg["type"] == "param":
            _mark_slice(value, sliced, dim, self.indices)
        msg["value"] = sliced

    def _refuse_shape(self, msg: Message, dim: int, event_dim: int) -> None:
        if msg["type"] == "param":
            statement = f"param('{msg['name']}', ..., event_dim={event_dim})"
        else:
            statement = f"subsample(..., event_dim={event_dim})"
        raise ValueError(
            message(
                f"Inside plate('{self.name}', {self.size}, dim={self.dim}) invalid shape of {statement}: "
                f"{tuple(msg['value'].shape)}",
                site=msg["name"],
                plates=msg["cond_indep_stack"],
                expected=f"size 1 or {self.size} at dim {dim}",
                actual=f"size {msg['value'].shape[dim]}",
                fix="pass the full tensor with its batch dimension at the plate's dim, or another event_dim",
            )
        )


def _mark_slice(full: torch.Tensor, sliced: torch.Tensor, dim: int, indices: torch.Tensor) -> None:
    """Let optimisers know which part of the parameter a minibatch touches."""
    leaf: Any = getattr(full, "_pyro_unconstrained_param", None)
    if leaf is None:
        if not hasattr(full, "unconstrained"):  # the value is not the store's, e.g. in a compiled function
            return
        leaf = full.unconstrained()
    leaf._pyro_subsample = {**getattr(leaf, "_pyro_subsample", {}), dim: indices}
    sliced._pyro_unconstrained_param = leaf  # type: ignore[attr-defined]


def _check_sizes(name: str, size: Any, subsample_size: Any, subsample: Any) -> None:
    if subsample is None and subsample_size is None and (size is None or size > 0):
        return

    def refuse(what: str, expected: str, actual: str, fix: str) -> None:
        raise ValueError(
            message(f"plate '{name}': {what}", site=name, expected=expected, actual=actual, fix=fix)
        )

    if size is None:
        if subsample_size is not None or subsample is not None:
            refuse(
                "subsampling needs the full size",
                "size, when subsample_size or subsample is given",
                "size=None",
                f"plate('{name}', size, subsample_size=...)",
            )
        return
    if size <= 0:
        refuse("size must be positive", "size > 0", f"size={size}", "give the number of independent elements")
    if subsample is not None and subsample_size is not None and subsample_size != len(subsample):
        refuse(
            "subsample_size does not match len(subsample)",
            f"subsample_size={len(subsample)}",
            f"subsample_size={subsample_size}",
            "leave subsample_size out when the indices are given",
        )
    wanted = len(subsample) if subsample is not None else subsample_size
    if wanted is not None and not 0 < wanted <= size:
        refuse(
            "the subsample must be non-empty and no larger than the plate",
            f"0 < subsample_size <= {size}",
            f"subsample_size={wanted}",
            "lower subsample_size",
        )
