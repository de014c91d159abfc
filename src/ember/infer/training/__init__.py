"""Run a training loop: steps, stop rules, progress, interruption, checkpoints; re-exports only."""

from ember.infer.training.checkpoint import Checkpoint
from ember.infer.training.feed import Batches, Constant
from ember.infer.training.loop import Options, train
from ember.infer.training.result import StepInfo, SVIResult
from ember.infer.training.steps import EagerSteps, Steps
from ember.infer.training.stopping import Plateau
from ember.infer.training.team import Alone, Team, Workers

__all__ = [
    "Alone",
    "Batches",
    "Checkpoint",
    "Constant",
    "EagerSteps",
    "Options",
    "Plateau",
    "SVIResult",
    "StepInfo",
    "Steps",
    "Team",
    "Workers",
    "train",
]
