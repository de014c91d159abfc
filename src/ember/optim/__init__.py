"""Optimise parameters by name, by torch's optimisers and a few more."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

from ember.elsewhere import names_of
from ember.errors import message
from ember.optim import adagrad_rmsprop as _adagrad_rmsprop
from ember.optim import clipped_adam as _clipped_adam
from ember.optim import dct_adam as _dct_adam
from ember.optim.lr_scheduler import PyroLRScheduler
from ember.optim.multi import (
    MixedMultiOptimizer,
    MultiOptimizer,
    Newton,
    PyroMultiOptimizer,
    TorchMultiOptimizer,
)
from ember.optim.optim import Options, PyroOptim, is_scheduler
from ember.optim.pytorch_optimizers import optimizers as _optimizers
from ember.optim.pytorch_optimizers import schedulers as _schedulers


def ClippedAdam(optim_args: Options, clip_args: Options | None = None) -> PyroOptim:
    """:class:`ember.optim.clipped_adam.ClippedAdam` in the calling form of the language."""
    return PyroOptim(_clipped_adam.ClippedAdam, optim_args, clip_args)


def AdagradRMSProp(optim_args: Options, clip_args: Options | None = None) -> PyroOptim:
    """:class:`ember.optim.adagrad_rmsprop.AdagradRMSProp` in the calling form of the language."""
    return PyroOptim(_adagrad_rmsprop.AdagradRMSProp, optim_args, clip_args)


def DCTAdam(optim_args: Options, clip_args: Options | None = None) -> PyroOptim:
    """:class:`ember.optim.dct_adam.DCTAdam` in the calling form of the language."""
    return PyroOptim(_dct_adam.DCTAdam, optim_args, clip_args)


def HorovodOptimizer(pyro_optim: Any) -> PyroOptim:
    """Refuse: gradients are averaged by torch.distributed, not by Horovod.

    :raises ImportError: always, with the way to do it.
    """
    raise ImportError(
        message(
            "HorovodOptimizer is not part of ember: Horovod is not used",
            actual=repr(pyro_optim),
            fix="give that optimiser to SVI itself, call svi.run(..., data_parallel=True), and start the "
            "program by torchrun",
        )
    )


globals().update(_optimizers)
globals().update(_schedulers)

if TYPE_CHECKING:

    def __getattr__(name: str) -> Any: ...
else:
    __getattr__ = names_of(__name__)


__all__ = [
    "AdagradRMSProp",
    "ClippedAdam",
    "DCTAdam",
    "HorovodOptimizer",
    "MixedMultiOptimizer",
    "MultiOptimizer",
    "Newton",
    "PyroLRScheduler",
    "PyroMultiOptimizer",
    "PyroOptim",
    "TorchMultiOptimizer",
    "is_scheduler",
    *_optimizers,
    *_schedulers,
]
