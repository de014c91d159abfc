"""Agree with the other processes of a data-parallel run, or with nobody."""

from __future__ import annotations

import os
import zlib
from collections.abc import Callable, Sequence
from functools import partial
from typing import Any, Protocol

import numpy as np
import torch
import torch.distributed as distributed
from torch import Tensor

from ember.errors import WorkerError, message
from ember.infer.training.heartbeat import Heartbeat
from ember.params import get_param_store
from ember.random_state import set_rng_seed

_PARTS = 8  # most parts of a loss


class Team(Protocol):
    """The processes that take each step together."""

    rank: int
    world: int

    def begin(self, new_stream: bool) -> None:
        """Give all processes the parameters of the first, and each random numbers of its own.

        :param new_stream: False if the generators are in a state of this process's own already.
        """

    def average(self, loss: Any, params: Sequence[Tensor]) -> Any:
        """Replace the gradients by their mean over the processes, and return that of the losses."""

    def agree(self, ending: int, save: bool) -> tuple[int, bool]:
        """Return the greatest ending that a process has, and whether one of them wants a checkpoint."""

    def gather(self, state: dict[str, Any]) -> list[dict[str, Any]]:
        """Return the states of all processes."""

    def report(self, error: BaseException) -> None:
        """Tell the others that this process failed."""

    def leave(self) -> None:
        """Be done with the run."""


class Alone:
    """The only process of a run."""

    rank, world = 0, 1

    def begin(self, new_stream: bool) -> None:
        """Leave everything as it is."""

    def average(self, loss: Any, params: Sequence[Tensor]) -> Any:
        """Return the loss."""
        return loss

    def agree(self, ending: int, save: bool) -> tuple[int, bool]:
        """Return what is given."""
        return ending, save

    def gather(self, state: dict[str, Any]) -> list[dict[str, Any]]:
        """Return the one state."""
        return [state]

    def report(self, error: BaseException) -> None:
        """Tell nobody."""

    def leave(self) -> None:
        """Leave nothing behind."""


class Workers:
    """The processes of a group of torch.distributed.

    They exchange a few numbers, always in the same form, at two points of each step: before gradients
    are averaged, and at its end. A process that fails takes part in the next exchange to say so.

    :raises RuntimeError: if the process belongs to no group and was not started by ``torchrun``.
    """

    def __init__(self) -> None:
        _join_group()
        self.rank, self.world = distributed.get_rank(), distributed.get_world_size()
        self._group = distributed.new_group(backend="gloo")
        store = distributed.distributed_c10d._get_default_store()
        number = store.add(f"ember/runs/{self.rank}", 1)
        self._heart = Heartbeat(store, f"ember/{number}", self.rank, self.world)
        self._known: set[str | None] = set()
        self._lost = False  # whether a process died

    # -- the protocol --------------------------------------------------------------------------------------

    def begin(self, new_stream: bool) -> None:
        """Give all processes the parameters of the first, and each random numbers of its own.

        :raises ValueError: if the processes have different parameters.
        """
        leaves = dict(get_param_store().named_parameters())
        names = sorted(leaves)
        # From the state of the first process's generator, which may have to stay as it is.
        seed = zlib.crc32(torch.get_rng_state().numpy().tobytes())
        seed = int(self._compare([leaves[name] for name in names], "at the start", [seed])[0])
        self._spread(names)
        if new_stream:
            set_rng_seed(int(np.random.SeedSequence([seed, self.rank]).generate_state(1)[0]))

    def average(self, loss: Any, params: Sequence[Tensor]) -> Any:
        """Replace the gradients by their mean over the processes, and return that of the losses.

        :raises ValueError: if the processes ran different parameters.
        :raises WorkerError: if another process failed or died.
        """
        params = sorted(params, key=lambda param: get_param_store().param_name(param) or "")
        parts = list(loss) if isinstance(loss, (tuple, list)) else [loss]
        losses = self._compare(params, "in this step", parts)
        for dtype in dict.fromkeys(param.dtype for param in params):
            self._average([param for param in params if param.dtype is dtype])
        self._spread([get_param_store().param_name(param) for param in params])
        means = losses.mean(0).tolist()
        return type(loss)(means) if isinstance(loss, (tuple, list)) else means[0]

    def agree(self, ending: int, save: bool) -> tuple[int, bool]:
        """Return the greatest ending that a process has, and whether one of them wants a checkpoint."""
        found = self._exchange(ending=ending, save=float(save)).amax(0)
        return int(found[1]), bool(found[2])

    def gather(self, state: dict[str, Any]) -> list[dict[str, Any]]:
        """Return the states of all processes."""
        states: list[Any] = [None] * self.world
        self._safely(lambda: distributed.all_gather_object(states, state, group=self._group))
        return states

    def report(self, error: BaseException) -> None:
        """Tell the others that this process failed, unless one of them is the cause."""
        if isinstance(error, WorkerError):
            return
        try:
            self._exchange(text=f"{type(error).__name__}: {error}")
        except WorkerError:
            return  # the others know by now, or are gone

    def leave(self) -> None:
        """Stop the heartbeat and close the group's connections, which wakes processes that still wait."""
        distributed.destroy_process_group(self._group)
        if self._lost:
            self._heart.linger()
        self._heart.close()

    # -- exchanges -----------------------------------------------------------------------------------------

    def _exchange(
        self,
        text: str | None = None,
        ending: int = 0,
        save: float = 0.0,
        signature: int = 0,
        losses: Sequence[float] = (),
    ) -> Tensor:
        """Return the numbers of all processes, ``[world, 4 + _PARTS]``.

        :param text: what failed here, if something did.
        :raises WorkerError: if a process failed, this one included.
        """
        own = torch.zeros(4 + _PARTS, dtype=torch.float64)
        own[:4] = torch.tensor([float(text is not None), ending, save, signature])
        own[4 : 4 + len(losses)] = torch.tensor(losses, dtype=torch.float64)
        found = [torch.empty_like(own) for _ in range(self.world)]
        self._safely(lambda: distributed.all_gather(found, own, group=self._group))
        numbers = torch.stack(found)
        failed = numbers[:, 0].nonzero().flatten().tolist()
        if failed:
            texts: list[Any] = [text]
            self._safely(lambda: distributed.broadcast_object_list(texts, failed[0], group=self._group))
            raise WorkerError(
                message(
                    f"the worker of rank {failed[0]} failed: {texts[0]}",
                    fix="mend its cause; a run with a checkpoint goes on with resume=True",
                ),
                failed[0],
            )
        return numbers

    def _safely(self, communicate: Callable[[], Any]) -> None:
        """Communicate, and say who is gone if that fails."""
        try:
            communicate()
        except RuntimeError as error:
            dead = self._heart.find_dead()
            self._lost = dead is not None
            what = "no other process answers" if dead is None else f"the worker of rank {dead} died"
            raise WorkerError(
                message(
                    f"{what}, and the run cannot go on without it",
                    actual=str(error).partition("\n")[0],
                    fix="start all workers again; a run with a checkpoint goes on with resume=True",
                ),
                dead,
            ) from error

    def _compare(self, params: Sequence[Tensor], when: str, losses: Sequence[float] = ()) -> Tensor:
        """Check that all processes have these parameters, and return their losses ``[world, parts]``."""
        store = get_param_store()
        described = [f"{store.param_name(each)} {each.dtype} {tuple(each.shape)}" for each in params]
        if len(losses) > _PARTS:
            raise ValueError(f"data-parallel losses have at most {_PARTS} parts, got {len(losses)}")
        numbers = self._exchange(signature=zlib.crc32("\n".join(described).encode()), losses=losses)
        if len(set(numbers[:, 3].tolist())) > 1:
            everywhere = [set(state["params"]) for state in self.gather({"params": described})]
            differing = sorted(set.union(*everywhere) - set.intersection(*everywhere))
            raise ValueError(
                message(
                    f"the workers have different parameters {when}",
                    expected="the same names, dtypes and shapes in every process",
                    actual=f"not everywhere: {', '.join(differing)}",
                    fix="let data or random draws not decide which parameters exist",
                )
            )
        return numbers[:, 4 : 4 + len(losses)]

    def _average(self, params: list[Tensor]) -> None:
        """Average the gradients of parameters of one dtype; one that no process has stays away."""
        grads = [param.grad for param in params]
        present = torch.tensor([float(grad is not None) for grad in grads]).to(params[0].dtype)
        pieces = [
            torch.zeros_like(param) if grad is None else grad.to_dense() if grad.is_sparse else grad
            for param, grad in zip(params, grads, strict=True)
        ]
        buffer = torch.cat([present, *(piece.reshape(-1) for piece in pieces)])
        self._safely(lambda: distributed.all_reduce(buffer, group=self._group))
        sums = buffer[len(params) :].split([param.numel() for param in params])
        for param, total, count in zip(params, sums, buffer[: len(params)].tolist(), strict=True):
            param.grad = (total / self.world).reshape(param.shape) if count else None

    def _spread(self, names: Sequence[str | None]) -> None:
        """Give all processes the first one's values of parameters that are new."""
        store = get_param_store()
        for name in names:
            leaf = None if name is None or name in self._known else store.leaf(name)
            if leaf is not None:
                self._safely(partial(distributed.broadcast, leaf.detach(), 0, group=self._group))
                self._known.add(name)


def _join_group() -> None:
    """Make the default group, from ``torchrun``'s environment if the program has not done so.

    :raises RuntimeError: if neither is there.
    """
    if not distributed.is_available():
        raise RuntimeError("data-parallel runs need torch.distributed, which this torch is built without")
    if distributed.is_initialized():
        return
    if not {"RANK", "WORLD_SIZE", "MASTER_ADDR", "MASTER_PORT"} <= set(os.environ):
        raise RuntimeError(
            message(
                "a data-parallel run needs several processes",
                expected="a process that torchrun started, or torch.distributed.init_process_group before",
                actual="neither",
                fix="torchrun --nproc-per-node 2 program.py",
            )
        )
    distributed.init_process_group("gloo")
