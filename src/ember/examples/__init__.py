"""Hold example programs on real data, each run by ``python -m ember.examples.NAME``."""
