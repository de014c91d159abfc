"""Predict from draws and from guides, and score data under them."""
