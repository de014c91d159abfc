"""Take the gradient steps of SVI as machine code, and fall back to eager ones."""

from ember.infer.compiled_steps.arguments import Arguments
from ember.infer.compiled_steps.execution import EAGER_STEPS, FIRST_STEPS, Execution
from ember.infer.compiled_steps.switching import SwitchingSteps

__all__ = ["EAGER_STEPS", "FIRST_STEPS", "Arguments", "Execution", "SwitchingSteps"]
