"""Every task comes back from JSON as it was, and says what it measures."""

from __future__ import annotations

import json

from comparisons import small_task

from loopos.compare import tasks


def test_a_task_comes_back(text):
    task = small_task(text, betas=(0.9, 0.99))
    saved = tasks.saved(task)
    assert saved["kind"] == "text"
    again = tasks.opened(json.loads(json.dumps(saved)))
    assert tasks.saved(again) == saved
    assert again.steps() == task.steps()


def test_every_kind_is_found_by_its_name_and_says_what_it_measures():
    for kind, task in tasks.TASKS.items():
        assert task.kind == kind
        assert task.unit
        assert task.qualities
