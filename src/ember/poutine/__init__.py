"""Offer the effect handlers, each as ``handler(fn, …)``, as a context manager and as a decorator."""

from typing import TYPE_CHECKING

from ember import settings as _settings
from ember.elsewhere import names_of
from ember.poutine import runtime
from ember.poutine.block_messenger import BlockMessenger
from ember.poutine.broadcast_messenger import BroadcastMessenger
from ember.poutine.collapse import collapse
from ember.poutine.condition_messenger import ConditionMessenger, DoMessenger, UnconditionMessenger
from ember.poutine.enum_messenger import EnumMessenger
from ember.poutine.enumeration_config import config_enumerate
from ember.poutine.equalize_messenger import EqualizeMessenger
from ember.poutine.escape_messenger import EscapeMessenger, queue
from ember.poutine.markov_messenger import markov
from ember.poutine.messenger import Messenger, handler, unwrap
from ember.poutine.param_messengers import LiftMessenger, SubstituteMessenger
from ember.poutine.reparam_messenger import ReparamMessenger
from ember.poutine.replay_messenger import ReplayMessenger
from ember.poutine.runtime import NonlocalExit, get_mask
from ember.poutine.seed_messenger import SeedMessenger
from ember.poutine.trace_messenger import TraceMessenger
from ember.poutine.trace_struct import Trace
from ember.poutine.weight_messengers import InferConfigMessenger, MaskMessenger, ScaleMessenger

block = handler(BlockMessenger, "block")
broadcast = handler(BroadcastMessenger, "broadcast")
condition = handler(ConditionMessenger, "condition")
do = handler(DoMessenger, "do")
enum = handler(EnumMessenger, "enum")
equalize = handler(EqualizeMessenger, "equalize")
escape = handler(EscapeMessenger, "escape")
infer_config = handler(InferConfigMessenger, "infer_config")
lift = handler(LiftMessenger, "lift")
mask = handler(MaskMessenger, "mask")
reparam = handler(ReparamMessenger, "reparam")
replay = handler(ReplayMessenger, "replay")
scale = handler(ScaleMessenger, "scale")
seed = handler(SeedMessenger, "seed")
substitute = handler(SubstituteMessenger, "substitute")
trace = handler(TraceMessenger, "trace")
uncondition = handler(UnconditionMessenger, "uncondition")


def enable_validation(is_validate: bool = True) -> None:
    """Switch the checks of this subpackage on or off."""
    _settings.set(validate_poutine=is_validate)


def is_validation_enabled() -> bool:
    """Whether the checks of this subpackage are on."""
    return bool(_settings.read("validate_poutine"))


if not TYPE_CHECKING:
    __getattr__ = names_of(__name__)

__all__ = [
    "Messenger",
    "NonlocalExit",
    "Trace",
    "block",
    "broadcast",
    "collapse",
    "condition",
    "config_enumerate",
    "do",
    "enable_validation",
    "enum",
    "equalize",
    "escape",
    "get_mask",
    "handler",
    "infer_config",
    "is_validation_enabled",
    "lift",
    "markov",
    "mask",
    "queue",
    "reparam",
    "replay",
    "runtime",
    "scale",
    "seed",
    "substitute",
    "trace",
    "uncondition",
    "unwrap",
]
