"""Move the learning rates of optimisers by torch's schedulers."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import torch

from ember.errors import message
from ember.optim.group import SchedulerMaker
from ember.optim.optim import Options, PyroOptim, _check_options, _options_for


class PyroLRScheduler(PyroOptim):
    """An optimiser whose learning rates follow a schedule; ``step()`` advances it.

    Every parameter's schedule starts when the parameter is first seen.

    :param scheduler_constructor: a class of torch schedulers.
    :param optim_args: a dict (or a function of a parameter's name that returns one) with the optimiser's
        class as ``optimizer``, its options as ``optim_args`` (or a function of the name), and the scheduler's
        options.
    :param clip_args: as in :class:`PyroOptim`.
    :raises ValueError: if ``optimizer`` or ``optim_args`` is missing.
    """

    _is_scheduler = True

    def __init__(
        self,
        scheduler_constructor: Callable[..., Any],
        optim_args: Options,
        clip_args: Options | None = None,
    ) -> None:
        _check_options("optim_args", optim_args)
        if isinstance(optim_args, dict):
            _check_parts(optim_args)
        super().__init__(scheduler_constructor, optim_args, clip_args)
        self.pt_scheduler_constructor = scheduler_constructor

    def _options(self, name: str | None) -> dict[str, Any]:
        options = dict(_options_for(self.pt_optim_args, name))
        _check_parts(options)
        options["optim_args"] = _options_for(options["optim_args"], name)
        return options

    def _split(self, options: dict[str, Any]) -> tuple[Callable[..., Any], dict[str, Any]]:
        return options["optimizer"], options["optim_args"]

    def _scheduler_maker(self, options: dict[str, Any]) -> SchedulerMaker | None:
        own = {key: value for key, value in options.items() if key not in ("optimizer", "optim_args")}

        def make(optimizer: torch.optim.Optimizer) -> Any:
            scheduler = self.pt_scheduler_constructor(optimizer, **own)
            # The optimiser may be stepped through groups that merge: torch's warning about order has no base.
            optimizer._opt_called = True  # type: ignore[attr-defined]
            return scheduler

        return make

    def step(self, *args: Any, **kwargs: Any) -> None:
        """Advance all schedules; the arguments are the torch scheduler's (e.g. a loss or an epoch)."""
        for group in self._groups:
            group.scheduler.step(*args, **kwargs)
            group.age += 1


def _check_parts(options: dict[str, Any]) -> None:
    missing = {"optimizer", "optim_args"} - set(options)
    if missing:
        raise ValueError(
            message(
                f"a scheduler's optim_args miss {', '.join(sorted(missing))}",
                expected="{'optimizer': torch.optim.Adam, 'optim_args': {'lr': 0.01}, ...}",
                actual=options,
            )
        )
