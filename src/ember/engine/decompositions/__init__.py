"""Say composite operations in terms of simpler ones."""
