"""loopos.Distill: what it takes, and its way through settings."""

from __future__ import annotations

import pytest

from loopos import Distill
from loopos.run.settings import TrainSettings
from loopos.training import default_settings


def test_round_trip():
    spec = Distill("mse", temperature=2, weight=0.5, cross_entropy=1)
    assert Distill.of(spec) is spec
    assert Distill.of(spec.to_dict()) == spec
    assert Distill.of("cosine") == Distill(loss="cosine")
    settings = default_settings(teacher="self", distill=spec)
    assert TrainSettings(**settings.to_dict()) == settings
    assert default_settings(teacher="self").distill == Distill("kl")
    assert default_settings().distill is None


@pytest.mark.parametrize(
    "bad",
    [
        {"loss": "l1"},
        {"temperature": 0.0},
        {"temperature": float("nan")},
        {"weight": 0.0},
        {"weight": -1.0},
        {"cross_entropy": -0.1},
    ],
)
def test_refusals(bad):
    with pytest.raises(ValueError, match=f"Distill: {next(iter(bad))} must be"):
        Distill(**bad)
    with pytest.raises(TypeError, match="temperature"):
        Distill(temperature="warm")
    with pytest.raises(ValueError, match="distill must be"):
        default_settings(teacher="self", distill="warm")
