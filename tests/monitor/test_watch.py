"""The monitor beside a run: what it finds reaches log, callbacks and stderr, the same over a resume."""

import json
import math

import numpy as np
import pytest

import loopos
from loopos.monitor.watch import Watch
from loopos.run.metrics import read_metrics

CONFIG = loopos.ModelConfig(vocab_size=32, context_length=8, n_layer=1, n_head=2, d_model=8)
MATRICES = {name for name, view in loopos.Model(CONFIG).parameters().items() if view.ndim >= 2}


class Spiked:
    """Batches of one token, which is soon learned, but for some steps whose targets are another."""

    def __init__(self, *steps):
        self.steps = steps

    def batch(self, step, micro):
        targets = np.full((2, 8), 9 if step + 1 in self.steps else 3)
        return np.full((2, 8), 3), targets


def train(data=None, **kwargs):
    settings = {"max_steps": 60, "learning_rate": 1e-2, "lr_schedule": "constant", "progress": False} | kwargs
    return loopos.train(CONFIG, Spiked(50) if data is None else data, **settings)


def bits(model):
    return b"".join(view.tobytes() for view in model.parameters().values())


def logged(folder):
    return [finding for line in read_metrics(folder / "metrics.jsonl") for finding in line.get("findings", [])]


class Hear:
    def __init__(self):
        self.alarms = []

    def on_alarm(self, info):
        self.alarms.append(info)


def test_a_spike_reaches_the_log_the_callback_and_the_result(tmp_path):
    hear = Hear()
    result = train(callbacks=[hear], output_dir=tmp_path)
    assert {info["step"] for info in hear.alarms} == {50}
    assert {info["name"] for info in hear.alarms} >= {"loss"}
    assert all(info["model"] is result.model for info in hear.alarms)
    (loss,) = [info for info in hear.alarms if info["name"] == "loss"]
    assert loss["value"] > 1
    assert "far above its past" in loss["sentence"]
    assert loss["expected"].startswith("near ")
    assert [vars(finding) for finding in result.findings] == logged(tmp_path)
    assert len(result.findings) == len(hear.alarms)
    plain = (bool, int, float)
    assert all(isinstance(value, plain) for line in result.history for value in line.values())


def moves(**settings):
    return [finding.step for finding in train(**{"data": Spiked()} | settings).findings if finding.name == "moved"]


class Noise:
    """Batches whose targets are drawn: the updates of each step turn those of the one before around."""

    def batch(self, step, micro):
        return np.full((2, 8), 3), np.random.default_rng(step).integers(0, 32, (2, 8))


FAR = {"data": Noise(), "learning_rate": 1e-2, "weight_decay": 10.0, "betas": (0.0, 0.9)}
FAR_AT = 25
LEADS = {"learning_rate": 0.5, "warmup_steps": 59}


def test_weights_that_move_far_are_told_after_as_many_looks_as_decide():
    """In step 10 they move by more than half of what young weights may, and from there on every step is looked at;
    it is told when the loss stands.
    Whatever the log: what is told does not depend on it."""
    for every in (10, 7, 1000):
        assert moves(**FAR, log_every=every) == [FAR_AT]


def test_a_warm_up_to_a_rate_that_would_rewrite_the_weights_is_told_in_its_second_step():
    assert moves(**LEADS, max_steps=59) == [2]
    assert moves(learning_rate=1e-2, warmup_steps=59, max_steps=59) == []


@pytest.mark.parametrize("stop", [1, 5, 14, 21])
def test_a_resumed_run_goes_on_looking_where_it_was(tmp_path, stop, stop_after):
    for name, settings, at in (("far", FAR, FAR_AT), ("leads", LEADS, 2)):
        how = settings | {"output_dir": tmp_path / name}
        first = moves(**how, callbacks=[stop_after(stop)])
        assert first + moves(**how, resume="auto") == [at]


def test_a_run_without_a_fault_is_silent(tmp_path):
    hear = Hear()
    assert train(Spiked(), callbacks=[hear], output_dir=tmp_path).findings == hear.alarms == []
    assert all("findings" not in line for line in read_metrics(tmp_path / "metrics.jsonl"))


def test_a_line_on_stderr_for_each_excursion_and_none_without_progress(capfd):
    found = train(Spiked(50, 51, 58), progress=True).findings
    err = capfd.readouterr().err
    for finding in found:
        assert err.count(f"{finding}\n") == 1
    assert {finding.step for finding in found if finding.name == "loss"} == {50, 58}
    train(Spiked(50))
    assert capfd.readouterr() == ("", "")


@pytest.mark.parametrize("stop", [40, 49, 50, 53])
def test_a_resumed_run_finds_what_the_uninterrupted_one_found(tmp_path, stop, stop_after):
    data = Spiked(50, 51, 57)
    whole = train(data, output_dir=tmp_path / "whole", log_every=7).findings
    first = train(data, output_dir=tmp_path / "run", log_every=7, callbacks=[stop_after(stop)]).findings
    rest = train(data, output_dir=tmp_path / "run", log_every=7, resume="auto").findings
    assert whole
    assert first + rest == whole
    assert logged(tmp_path / "run") == logged(tmp_path / "whole") == [vars(finding) for finding in whole]


def test_a_checkpoint_between_two_lines_of_the_log_loses_and_doubles_nothing(tmp_path):
    class Die:
        def on_step_end(self, info):
            if info["step"] == 56:
                raise LookupError("mine")

    whole = train(output_dir=tmp_path / "whole", log_every=100).findings
    with pytest.raises(LookupError):
        train(output_dir=tmp_path / "run", log_every=100, save_every=53, callbacks=[Die()])
    train(output_dir=tmp_path / "run", log_every=100, resume="auto")
    assert logged(tmp_path / "run") == [vars(finding) for finding in whole]


def test_what_comes_before_a_halt_is_in_the_log(tmp_path):
    class Poison:
        def on_step_end(self, info):
            if info["step"] == 55:
                next(iter(info["model"].parameters().values()))[...] = math.nan

    with pytest.raises(loopos.NonFiniteError):
        train(output_dir=tmp_path, log_every=100, save_every=53, callbacks=[Poison()])
    assert {finding["step"] for finding in logged(tmp_path)} == {50}


def test_a_number_that_is_not_finite_is_null_in_the_log(tmp_path):
    class Poison:
        def on_step_end(self, info):
            view = next(iter(info["model"].parameters().values()))
            if info["step"] == 5:
                self.kept, view[...] = view.copy(), math.nan
            if info["step"] == 6:
                view[...] = self.kept

    found = train(output_dir=tmp_path, on_nonfinite="skip", callbacks=[Poison()]).findings
    assert math.isnan(next(finding for finding in found if finding.step == 6 and finding.name == "loss").value)
    assert next(f for f in logged(tmp_path) if f["step"] == 6 and f["name"] == "loss")["value"] is None
    for line in (tmp_path / "metrics.jsonl").read_text().splitlines():
        json.loads(line, parse_constant=pytest.fail)


def test_it_changes_no_bit(monkeypatch):
    with_it = bits(train().model)
    monkeypatch.setattr(Watch, "before", lambda *_: None)
    monkeypatch.setattr(Watch, "after", lambda *_: [])
    assert bits(train().model) == with_it


def test_ratios_are_of_matrices_at_regular_log_steps_and_not_in_the_history(tmp_path):
    result = train(output_dir=tmp_path, log_every=20, max_steps=50)
    lines = read_metrics(tmp_path / "metrics.jsonl")
    assert [(line["step"], set(line.get("update_ratio", ()))) for line in lines] == [
        (1, MATRICES),
        (20, MATRICES),
        (40, MATRICES),
        (50, set()),
    ]
    assert all("update_ratio" not in line for line in result.history)
    still = train(output_dir=tmp_path / "still", learning_rate=0, max_steps=1)
    assert still.findings == []
    assert set(read_metrics(tmp_path / "still/metrics.jsonl")[0]["update_ratio"].values()) == {0.0}


def test_an_update_that_was_not_applied_has_no_ratio(tmp_path):
    class Empty:
        def batch(self, step, micro):
            return np.zeros((1, 8), int), np.full((1, 8), -100 if step == 1 else 3)

    train(Empty(), output_dir=tmp_path, log_every=1, max_steps=3)
    assert ["update_ratio" in line for line in read_metrics(tmp_path / "metrics.jsonl")] == [True, False, True]


def test_a_state_that_cannot_be_used_begins_anew_and_says_so():
    model = loopos.Model(CONFIG)
    with pytest.warns(RuntimeWarning, match="the monitor begins anew"):
        fresh = Watch(model, 10, {"window": 3})
    assert fresh.state() == Watch(model, 10).state() == Watch(model, 10, None).state()
