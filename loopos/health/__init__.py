"""Numerical health: what went wrong in a run, where, when and why."""
