"""Run a training loop: steps, stop rules, progress, interruption, checkpoints; re-exports only."""

from ember.infer.training.checkpoint import Checkpoint
from ember.infer.training.feed import Batches, Constant
from ember.infer.training.loop import Options, train
from ember.infer.training.result import StepInfo, SVIResult
from ember.infer.training.steps import EagerSteps, Steps
from ember.infer.training.stopping import Plateau

__all__ = [
    "Batches",
    "Checkpoint",
    "Constant",
    "EagerSteps",
    "Options",
    "Plateau",
    "SVIResult",
    "StepInfo",
    "Steps",
    "train",
]
