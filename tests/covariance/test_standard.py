"""The settings of the command: presets, and texts that stand for numbers."""

from __future__ import annotations

import pytest

from loopos.covariance.standard import PRESETS, losses, numbers, setting, span


@pytest.mark.parametrize("name", PRESETS)
def test_a_preset_is_whole(name):
    simulations, config, preset = setting({"preset": name})
    assert config.elements == preset.array.sensors == simulations[0].array.sensors
    assert [each.snapshots for each in simulations] == list(preset.snapshots)
    assert {"max_steps", "batch_size", "optimizer"} <= set(preset.training)


def test_options_win_and_are_taken():
    given = {"preset": "line", "sources": "1", "snr": "-3,7", "snapshots": "4,9", "correlation": 1.0, "rank": 3}
    given |= {"prediction": "factor"}
    given |= {"loss": "stein=0.5,subspace", "max_steps": 3}
    simulations, config, _ = setting(given)
    assert given == {"max_steps": 3}
    assert [each.snapshots for each in simulations] == [4, 9]
    assert (simulations[0].sources, simulations[0].snr, simulations[0].correlation) == (1, (-3.0, 7.0), 1.0)
    assert (config.rank, config.loss) == (3, (("stein", 0.5), ("subspace", 1.0)))


def test_texts_that_are_no_numbers():
    assert (numbers("snr", "-5,0,5"), span("sources", "3,5", int), losses("stein")) == (
        (-5, 0, 5),
        (3, 5),
        {"stein": 1},
    )
    with pytest.raises(ValueError, match="snapshots must be numbers with commas, got 'many'"):
        numbers("snapshots", "many", int)
    with pytest.raises(ValueError, match="one number or two"):
        span("snr", "1,2,3")
    with pytest.raises(ValueError, match="loss"):
        setting({"loss": "mse"})
    with pytest.raises(ValueError, match="preset"):
        setting({"preset": "sphere"})
    with pytest.raises(ValueError, match="rank is of prediction='factor'"):
        setting({"rank": 3})
