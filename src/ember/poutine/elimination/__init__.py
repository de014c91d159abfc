"""Sum discrete variables out of plated factor graphs, and draw them back."""
