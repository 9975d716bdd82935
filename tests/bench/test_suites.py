"""The suites by name: bad arguments are refused before anything runs, and the number of threads is put back."""

from __future__ import annotations

import pytest

import loopos
from loopos.bench import suites


@pytest.mark.parametrize(
    ("arguments", "error", "says"),
    [
        (("steps2",), ValueError, "suite must be one of 'steps', 'ops', 'scaling', 'generate'"),
        (("steps", {"rounds": 0}), ValueError, "rounds must be an integer of at least 1"),
        (("steps", {"rounds": True}), TypeError, "rounds"),
        (("ops", {"steps": 0}), ValueError, "steps must be an integer of at least 1"),
        (("steps", {"threads": 5000}), ValueError, "threads"),
        (("ops", {"peers": "jax"}), ValueError, "out of loopos, torch, torch-medium, torch-bfloat16"),
    ],
)
def test_refused_before_anything_runs(arguments, error, says, monkeypatch):
    ran = []
    for name, suite in suites.SUITES.items():
        monkeypatch.setitem(suites.SUITES, name, suite._replace(measure=lambda *a, **k: ran.append(1)))
    suite, *keywords = arguments
    with pytest.raises((ValueError, TypeError), match=says) as caught:
        suites.run(suite, **(keywords[0] if keywords else {}))
    assert isinstance(caught.value, error)
    assert ran == []


def test_threads_are_put_back_when_a_suite_fails(monkeypatch, thread_count):
    thread_count(2)

    def fails(asked):
        loopos.set_num_threads(asked.threads)
        raise RuntimeError("stop")

    monkeypatch.setitem(suites.SUITES, "ops", suites.SUITES["ops"]._replace(measure=fails))
    with pytest.raises(RuntimeError, match="stop"):
        suites.run("ops", threads=1)
    assert loopos.get_num_threads() == 2
