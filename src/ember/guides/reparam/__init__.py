"""Rewrite sites so that inference meets a simpler geometry."""
