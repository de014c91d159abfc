"""Offer what goes back over plated sums of products."""
