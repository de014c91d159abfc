"""Turn programs into densities: inspection, layout in unconstrained space, evaluation and starting points."""

from ember.model import explanation as explanation
