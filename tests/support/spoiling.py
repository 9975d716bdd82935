"""Weights that go bad in the middle of a run."""

from __future__ import annotations

import math


class Spoil:
    """After each of ``steps`` the weight ``name`` is NaN throughout."""

    def __init__(self, name, *steps):
        self.name, self.steps = name, steps

    def on_step_end(self, info):
        if info["step"] in self.steps:
            info["model"].parameters()[self.name][...] = math.nan
