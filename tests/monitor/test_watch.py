"""The monitor beside a run: what it finds reaches log, callbacks and stderr, the same over a resume."""

import json
import math

import numpy as np
import pytest

import loopos
from loopos import _core
from loopos.monitor import watch as watching
from loopos.monitor.watch import UpdateRatios, Watch
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


def test_weights_that_move_far_are_told_in_the_second_measured_step_that_shows_it():
    findings = train(Spiked(), weight_decay=205.0, log_every=10).findings  # -1.05 w in a step
    assert [finding.step for finding in findings if finding.name == "moved"] == [10]


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


def test_the_ratio_is_rms_of_the_update_over_rms_of_the_weights():
    rng = np.random.default_rng(0)
    weights = {"a": rng.normal(size=(20, 30)), "b": np.zeros((3, 4)), "bias": np.ones(5), "none": np.ones((0, 4))}
    ratios = UpdateRatios(weights)
    ratios.remember()
    before = weights["a"].copy()
    weights["a"] += 1e-3 * rng.normal(size=(20, 30))
    weights["bias"] += 1
    expected = np.linalg.norm(weights["a"] - before) / np.linalg.norm(before)
    assert ratios.measure() == {"a": pytest.approx(expected, rel=1e-12)}
    assert UpdateRatios({}).measure() == {}


@pytest.mark.parametrize("shape", [(1024, 64), (512, 1000), (3, 20_001), (64, 16, 16)])
def test_a_sample_of_a_large_matrix_stands_for_all_of_its_columns(shape):
    array = np.arange(math.prod(shape), dtype=np.float32).reshape(shape)
    sample = watching._sample(array)
    assert sample.base is not None
    assert 0.8 * watching.SAMPLED <= sample.size <= 2 * watching.SAMPLED
    columns = np.unique(sample.astype(int) % shape[-1])
    assert len(columns) == min(shape[-1], sample.size)
    rng = np.random.default_rng(1)
    matrix = rng.normal(size=shape).astype(np.float32)
    ratios = UpdateRatios({"a": matrix})
    ratios.remember()
    matrix *= np.float32(1 + 1e-3)
    assert ratios.measure()["a"] == pytest.approx(1e-3, rel=1e-3)


def test_huge_weights_are_no_warning():
    matrix = np.full((4, 4), 1e300)
    ratios = UpdateRatios({"a": matrix})
    ratios.remember()
    matrix *= 2
    assert math.isnan(ratios.measure()["a"])


def test_a_state_that_cannot_be_used_begins_anew_and_says_so():
    model = loopos.Model(CONFIG)
    with pytest.warns(RuntimeWarning, match="the monitor begins anew"):
        fresh = Watch(model, 10, {"window": 3})
    assert fresh.state() == Watch(model, 10).state() == Watch(model, 10, None).state()


@pytest.mark.parametrize("dtype", [np.float32, np.float64])
def test_samples_are_copied_and_compared(dtype):
    rng = np.random.default_rng(2)
    whole = rng.normal(size=(3, 41)).astype(dtype)
    samples, before = [whole[0, ::3], whole[1, :0], whole[2], np.zeros(2, dtype)], np.empty(14 + 41 + 2)
    _core.copy_samples(samples, before)
    old = [sample.astype(float) for sample in samples]
    assert (before == np.concatenate(old)).all()
    whole *= dtype(1.001)
    whole[2, 0] += dtype(0.5)
    samples[3][:] = 1
    expected = [
        np.linalg.norm(sample.astype(float) - was) / np.linalg.norm(was) if was.any() else None
        for sample, was in zip(samples, old, strict=True)
    ]
    stand_for = [3.0, 1.0, 2.0, 5.0]
    parts = [
        np.sqrt(weight) * np.stack([sample.astype(float) - was, was])
        for sample, was, weight in zip(samples, old, stand_for, strict=True)
    ]
    difference, size = np.linalg.norm(np.concatenate(parts, axis=1), axis=1)
    ratios, of_all = _core.moved_samples(samples, before, stand_for)
    assert ratios == [n if n is None else pytest.approx(n, rel=1e-14) for n in expected]
    assert of_all == pytest.approx(difference / size, rel=1e-14)
    assert _core.moved_samples([], before, []) == ([], None)
    with pytest.raises(ValueError, match="stand_for must have a number for each sample"):
        _core.moved_samples(samples, before, [1.0])


CALLS = [_core.copy_samples, lambda samples, before: _core.moved_samples(samples, before, [1.0] * len(samples))]


@pytest.mark.parametrize(
    "samples", [[np.zeros((2, 2))], [np.zeros(5)], [np.zeros(3, int)], ["abc"]], ids=["2-D", "too many", "int", "text"]
)
def test_samples_that_do_not_fit_are_refused(samples):
    for call in CALLS:
        with pytest.raises(ValueError, match="samples must be"):
            call(samples, np.zeros(4))


def test_a_copy_that_does_not_lie_in_one_piece_is_refused():
    for call in CALLS:
        with pytest.raises(TypeError, match="incompatible function arguments"):
            call([np.zeros(3)], np.zeros(3)[::-1])
