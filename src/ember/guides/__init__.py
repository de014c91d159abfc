"""Approximate posteriors: automatic guides, and checks that a guide fits its model."""
