"""The preset "safe"."""

from __future__ import annotations

import inspect
import json
from pathlib import Path

import pytest

import loopos
from loopos.vision import SAFE, safe

RECORD = Path(__file__).parents[2] / "benchmarks/results/ten_fixes.json"


def test_a_preset_has_a_size_and_safe():
    assert safe.parted("safe") == (None, True)
    assert safe.parted("nano_8gb, safe") == ("nano_8gb", True)
    assert safe.parted("tiny") == ("tiny", False)
    with pytest.raises(ValueError, match="preset takes one size, and safe beside it, got 'tiny,nano_8gb'"):
        safe.parted("tiny,nano_8gb")


def test_what_is_given_wins_and_is_told():
    found, told = safe.applied({"preset": "safe", "learning_rate": 0.01})
    assert found == {"learning_rate": 0.01, **SAFE}
    assert [sentence.split(" (")[0] for sentence in told] == [f"preset safe: {n} {v}" for n, v in SAFE.items()]
    found, told = safe.applied({"preset": "tiny,safe", "max_grad_norm": 5.0})
    assert found == SAFE | {"preset": "tiny", "max_grad_norm": 5.0}
    assert told[0].startswith("preset safe: max_grad_norm stays 5.0, as given, not 1.0 (")
    assert safe.applied({"preset": "tiny"}) == ({"preset": "tiny"}, [])
    assert safe.applied({}) == ({}, [])


def test_they_are_keywords_of_train():
    assert set(SAFE) <= set(inspect.signature(loopos.train).parameters)


def losses(setting, row):
    found = json.loads(RECORD.read_text())["trainings"]
    return [t["loss"] for t in sorted(found, key=lambda t: t["seed"]) if (t["setting"], t["row"]) == (setting, row)]


def test_the_record_supports_clipping_and_nothing_that_is_left_out():
    """Clipping: lower by a tenth behind a broken batch, and no more than a tenth higher without one. Lower rates and
    the clamp cost more than they give."""
    usual, sound, hot = (losses(setting, "nothing") for setting in ("fault", "sound", "hot"))
    assert len(usual) == len(sound) == len(hot) >= 2
    clipped = "gradients clipped to norm 1"
    assert sum(losses("fault", clipped)) / sum(usual) < 0.9
    assert sum(losses("sound", clipped)) / sum(sound) < 1.1
    for row in ("5 learning rate 3e-4", "rate 1e-4"):
        assert min(a / b for a, b in zip(losses("sound", row), sound, strict=True)) > 1.5, row
    assert min(a / b for a, b in zip(losses("hot", "2 logits clamped to ±100"), hot, strict=True)) > 1
