"""Take the gradient steps of SVI as machine code, and fall back to eager ones."""

from ember.infer.compiled_steps.arguments import Arguments
from ember.infer.compiled_steps.execution import Execution
from ember.infer.compiled_steps.switching import SwitchingSteps

__all__ = ["Arguments", "Execution", "SwitchingSteps"]
