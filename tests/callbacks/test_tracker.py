"""What all trackers share: a tracker that fails costs no run and no bit."""

from __future__ import annotations

import warnings

import numpy as np
import pytest

import loopos
from loopos.callbacks.tracker import Tracker

CONFIG = loopos.ModelConfig(256, 16, 1, 2, 16)
TEXT = "to be or not to be. " * 30


class Seen(Tracker):
    name = "Seen"

    def __init__(self, failing=None):
        super().__init__()
        self.failing, self.calls = failing, []

    def _note(self, method, *arguments):
        self.calls.append((method, *arguments))
        if method == self.failing:
            raise OSError("disk full")

    def begin(self, config, step, output_dir):
        self._note("begin", config, step, output_dir)

    def numbers(self, numbers, step):
        self._note("numbers", numbers, step)

    def finding(self, sentence, step):
        self._note("finding", sentence, step)

    def saved(self):
        self._note("saved")

    def end(self):
        self._note("end")


def run(tracker, **options):
    callbacks = [] if tracker is None else [tracker]
    return loopos.train(CONFIG, TEXT, max_steps=4, log_every=2, callbacks=callbacks, progress=False, **options)


def test_it_is_told_config_numbers_and_findings(tmp_path):
    seen = Seen()
    result = run(seen, eval_data=TEXT, eval_every=2, output_dir=tmp_path)
    (_, config, step, folder), *_ = seen.calls
    assert (step, str(folder)) == (0, str(tmp_path))
    assert config["model"]["d_model"] == 16
    assert config["train"]["learning_rate"] == 3e-4
    assert config["train"]["max_steps"] == 4
    logged = [(numbers, step) for name, *rest in seen.calls if name == "numbers" for numbers, step in [rest]]
    assert [step for _, step in logged] == [1, 2, 4]
    for (numbers, _), entry in zip(logged, result.history, strict=True):
        assert numbers["train/loss"] == entry["loss"]
        assert numbers.get("eval/loss") == entry.get("eval_loss")
        assert set(numbers) == {"eval/loss" if k == "eval_loss" else f"train/{k}" for k in entry if k != "step"}
    assert [call[0] for call in seen.calls[-2:]] == ["saved", "end"]


def test_it_is_told_what_the_monitor_finds():
    seen = Seen()
    with pytest.raises(loopos.NonFiniteError):
        loopos.train(
            CONFIG,
            TEXT,
            max_steps=9,
            learning_rate=3e3,
            lr_schedule="constant",
            max_grad_norm=None,
            optimizer="sgd",
            callbacks=[seen],
            progress=False,
        )
    found = [call for call in seen.calls if call[0] == "finding"]
    assert found
    assert all(isinstance(sentence, str) and step >= 1 for _, sentence, step in found)
    assert seen.calls[-1] == ("end",)


@pytest.mark.parametrize("failing", ["begin", "numbers", "saved", "end"])
def test_one_that_fails_stops_nothing_changes_nothing_and_is_told_once(failing, tmp_path):
    expected, seen = run(None).model.state_dict(), Seen(failing)
    with pytest.warns(
        RuntimeWarning, match="Seen: nothing more is logged there, the training goes on: OSError"
    ) as told:
        result = run(seen, output_dir=tmp_path)
    assert len(told) == 1
    assert result.step == 4
    assert [call[0] for call in seen.calls].count(failing) == 1
    assert seen.calls[-1][0] == failing  # nothing is sent after it
    assert all(np.array_equal(result.model.state_dict()[name], expected[name]) for name in expected)


def test_it_begins_anew_with_another_run():
    seen = Seen("numbers")
    with pytest.warns(RuntimeWarning, match="disk full"):
        run(seen)
    seen.failing = None
    with warnings.catch_warnings():
        warnings.simplefilter("error")
        run(seen)
    assert seen.calls[-1] == ("end",)


def test_ctrl_c_in_a_tracker_is_ctrl_c():
    class Interrupted(Seen):
        def numbers(self, numbers, step):
            raise KeyboardInterrupt

    with pytest.raises(KeyboardInterrupt):
        run(Interrupted())
