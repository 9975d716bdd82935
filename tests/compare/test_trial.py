"""Trials and their outcomes."""

from __future__ import annotations

import pytest
from comparisons import finished

from loopos.compare.trial import OUTCOME, Outcome, Trial


def test_each_trial_has_a_name_of_its_own():
    trials = [Trial("sgd", 0.1, 1, 9), Trial("sgd", 0.1, 2, 9), Trial("sgd", 0.01, 1, 9), Trial("sgd", 0.1, 1, 9, True)]
    assert len({trial.name for trial in trials}) == 4
    assert trials[0].name == "sgd-0.1-seed1"
    assert trials[3].name == "sweep-sgd-0.1-seed1"


def test_an_outcome_comes_back_as_it_was_written(tmp_path):
    outcome = finished(2.0 / 3, said="ä", quality={"perplexity": None})
    outcome.write(tmp_path)
    assert Outcome.read(tmp_path) == outcome


@pytest.mark.parametrize("content", [None, "", "[]", "{}", '{"status": "finished"}'])
def test_no_outcome_or_a_damaged_one_is_none(tmp_path, content):
    if content is not None:
        (tmp_path / OUTCOME).write_text(content)
    assert Outcome.read(tmp_path) is None
