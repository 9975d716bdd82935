"""loopos/health/doctor/plan.py: what is known of a training before it begins."""

from __future__ import annotations

import numpy as np
import pytest

import loopos
from loopos.data import open_sources
from loopos.health.doctor.plan import Plan
from loopos.training import default_settings


class Endless:
    def batch(self, step, micro):
        return np.ones((2, 4), int), np.ones((2, 4), int)


@pytest.mark.parametrize(
    ("settings", "total"), [({}, 3), ({"epochs": 4}, 12), ({"max_steps": 7}, 7), ({"max_steps": 7, "epochs": 1}, 3)]
)
def test_the_length_of_the_run(settings, total, config):
    sources = open_sources(b"x" * 500, vocab_size=256, context_length=16)
    plan = Plan(config(), config(), sources, default_settings(**settings))
    assert plan.total == total
    assert plan.new
    assert plan.stream is sources.train
    assert plan.loaded_from is None


def test_data_without_an_end_leave_it_open(config):
    sources = open_sources(Endless(), vocab_size=256, context_length=16)
    plan = Plan(loopos.Model(config()), config(), sources, default_settings())
    assert plan.total is None
    assert not plan.new
    assert plan.stream is None
    assert plan.engine
    assert not Plan(object(), None, sources, default_settings()).engine
