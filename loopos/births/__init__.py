"""Births: where a number that is not finite came from, and how."""
