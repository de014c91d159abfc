"""Turn programs into densities: inspection, layout in unconstrained space, evaluation and starting points."""
