"""Rewrite programs into equivalent ones."""
