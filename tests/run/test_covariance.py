"""A network of snapshots in loopos.train: it learns, resumes bit for bit, refuses, is evaluated by the same path."""

from __future__ import annotations

import json
import re
import warnings
from dataclasses import replace
from types import SimpleNamespace

import numpy as np
import pytest
from snapshots import network, small

import loopos
from loopos import testing
from loopos.covariance import ULA, CovarianceNetwork, Simulation
from loopos.covariance.batches import Simulated, open_samples
from loopos.covariance.ledger import ScaleAlarm
from loopos.covariance.pipeline import STAGES
from loopos.data.order import Order
from loopos.errors import AmplificationError
from loopos.run.covariance import CovarianceLoss
from loopos.training import default_settings

LINE = Simulation(ULA(5), sources=2, snr=5.0, snapshots=6, seed=4)
RUN = {
    "max_steps": 6,
    "batch_size": 4,
    "learning_rate": 3e-3,
    "log_every": 2,
    "progress": False,
    "seed": 3,
    "eval_data": LINE,
    "eval_every": 3,
}


KINDS = [{}, {"prediction": "powers", "shape": (5,)}]


@pytest.mark.parametrize("kind", KINDS)
def test_training_and_evaluation_make_the_same_matrices(monkeypatch, kind):
    """Tensor by tensor: what the core's loss was given, and what a score of the same batch is made of."""
    model = network("float32", **kind)
    objective = CovarianceLoss(default_settings(), model)
    batch, seen, made = Simulated([LINE], 4, 1).batch(0), [], objective.result
    monkeypatch.setattr(objective, "result", lambda *given: seen.append(made(*given)) or seen[-1])
    rows, targets, given = objective.inputs(batch)
    objective.keywords(rows, targets, {"scale": 0.25, **given})
    total, _, healthy = model._core.accumulate(rows, targets, scale=0.25, **given)
    score, count, _ = objective.score(model._core, batch)
    assert (healthy, count) == (True, 4)
    assert total == score
    train, evaluated = seen
    for name in (*STAGES, "truth"):
        np.testing.assert_array_equal(train.matrices[name], evaluated.matrices[name], err_msg=name)
    for name in ("vectors", "losses", "scale"):
        np.testing.assert_array_equal(getattr(train, name), getattr(evaluated, name), err_msg=name)


def test_it_learns_and_its_log_has_the_ledger(tmp_path):
    config = small(d_model=32, n_layer=1)
    run = RUN | {"max_steps": 200, "batch_size": 16, "learning_rate": 1e-2, "log_every": 20, "optimizer": "muon"}
    result = loopos.train(config, replace(LINE, snapshots=2), **run, output_dir=tmp_path)
    assert isinstance(result.model, CovarianceNetwork)
    first, last = result.history[0], result.history[-1]
    assert last["loss"] < 0.8 * first["loss"]
    for name in STAGES:
        for quantity in ("norm", "trace", "smallest", "condition"):
            assert f"{name}_{quantity}" in last
    assert last["eval_blend_norm"] == pytest.approx(last["blend_norm"], rel=0.3)
    assert last["scale_alarms"] == 0
    assert first["beta"] != last["beta"]
    lines = [json.loads(line) for line in (tmp_path / "metrics.jsonl").read_text().splitlines()]
    assert lines[-1]["pred_smallest"] > 0
    again = CovarianceNetwork.load(tmp_path)
    given = LINE.samples(0, 2).snapshots
    np.testing.assert_array_equal(again.numbers(given), result.model.numbers(given))
    with pytest.raises(ValueError, match="run of a CovarianceNetwork and no language model"):
        loopos.Model.from_pretrained(tmp_path)


@pytest.mark.parametrize("kind", KINDS)
def test_a_resumed_run_has_the_bits_of_one_that_was_not_stopped(tmp_path, kind):
    whole = loopos.train(small(**kind), [LINE, replace(LINE, snapshots=3)], **RUN, grad_accum=2, threads=1)

    given = RUN | {"grad_accum": 2, "output_dir": tmp_path}
    loopos.train(small(**kind), [LINE, replace(LINE, snapshots=3)], **given, callbacks=[StopAfter(4)])
    rest = loopos.train(small(**kind), [LINE, replace(LINE, snapshots=3)], **given, resume="auto", threads=2)
    for name, view in whole.model.parameters().items():
        np.testing.assert_array_equal(rest.model.parameters()[name], view, err_msg=name)
    assert rest.history[-1]["loss"] == whole.history[-1]["loss"]
    with pytest.raises(ValueError, match="data"):
        loopos.train(small(**kind), replace(LINE, seed=5), **given, resume="auto")


def test_a_loss_that_is_not_finite_changes_no_weight_and_is_told_with_its_place(tmp_path):
    model = network("float32")
    before = {name: view.copy() for name, view in model.parameters().items()}
    with (
        testing.planted(model, "pooled", (1, 2), np.nan, step=2),
        pytest.raises(loopos.NonFiniteError) as caught,
    ):
        loopos.train(model, LINE, **(RUN | {"learning_rate": 0.0}), output_dir=tmp_path)
    birth = caught.value.birth
    assert (birth.step, birth.op, birth.tensor, birth.index) == (2, "pool", "pooled", (1, 2))
    for name, view in model.parameters().items():
        np.testing.assert_array_equal(view, before[name])


def test_the_failure_is_told_while_it_trains():
    config = small(prediction="unconstrained", normalize=("blend",), limit=None, learn_beta=False)
    with warnings.catch_warnings(record=True) as told:
        warnings.simplefilter("always")
        result = loopos.train(config, faint(), **(RUN | {"eval_data": None, "eval_every": None}))
    text = "\n".join(str(each.message) for each in told)
    assert re.search(r"step 1: the trace of R_blend of sample \d was -.*, below the floor 1e-09, so", text)
    worst = max(result.history, key=lambda entry: entry["loss"])
    assert worst["loss"] > 1e15
    assert worst["scale_alarms"] > 0


def test_with_a_limit_it_is_refused():
    config = small(prediction="unconstrained", normalize=("blend",), limit=1e6, learn_beta=False)
    with pytest.raises(ValueError, match="factor"):
        loopos.train(config, faint(), **RUN)


def test_a_refusal_tells_its_step_changes_no_weight_and_keeps_the_checkpoint(tmp_path):
    run = RUN | {"eval_data": None, "eval_every": None, "save_every": 1, "output_dir": tmp_path}
    given, third = LINE.samples(0, 16), Order(16, RUN["seed"]).batch(2, 4)[0]
    given.snapshots[third] *= 1e-9  # its R_samp is too faint to be scaled; all before it are sound
    config = small(normalize=("pred", "samp"))
    model = CovarianceNetwork(config, seed=2)
    with pytest.raises(AmplificationError, match=r"train: step 3: R_samp: .*batch entry \(0,\)") as caught:
        loopos.train(model, given, **run)
    assert caught.value.factor > 1e6
    two = loopos.train(
        CovarianceNetwork(config, seed=2),
        given,
        **(run | {"output_dir": None, "save_every": None}),
        callbacks=[StopAfter(2)],
    )
    kept = CovarianceNetwork.load(tmp_path)
    for name, view in two.model.parameters().items():
        np.testing.assert_array_equal(model.parameters()[name], view, err_msg=name)
        np.testing.assert_array_equal(kept.parameters()[name], view, err_msg=name)
    with pytest.raises(AmplificationError, match="train: evaluation: R_samp"):
        loopos.train(model, LINE, **(RUN | {"eval_data": given, "eval_every": 1}))


class StopAfter:
    def __init__(self, step):
        self._step = step

    def on_step_end(self, info):
        return info["step"] == self._step


def test_the_alarms_of_another_process_are_told_by_the_first():
    first, last = (CovarianceLoss(default_settings(), network("float32")) for _ in range(2))
    first._latest, last._latest, first._step, last._step = {"beta": 0.1}, {"beta": 0.2}, 4, 4
    last._alarms = [(ScaleAlarm("blend", 1e12, 0, "the blend is out of scale"), "batch")]
    parts = [(each._latest, each._alarms, each._step) for each in (first, last)]
    with pytest.warns(RuntimeWarning, match="train: step 5: the blend is out of scale"):
        first.gather(SimpleNamespace(gather=lambda own: parts))
    assert first.measured() == {"beta": 0.2, "scale_alarms": 1.0}


def test_alarms_of_all_micro_batches_are_counted():
    config = small(prediction="unconstrained", normalize=("blend",), limit=None, learn_beta=False)
    objective = CovarianceLoss(default_settings(), network("float32", **{f: getattr(config, f) for f in WILD}))
    sources = open_samples(config, faint(), None, batch_size=4, grad_accum=1, seed=0)
    counts = []
    objective.begin()
    for step in range(2):
        rows, targets, given = objective.inputs(sources.train.batch(step))
        objective.keywords(rows, targets, {"scale": 0.25, **given})
        with warnings.catch_warnings():
            warnings.simplefilter("ignore")
            objective._model._core.accumulate(rows, targets, scale=0.25, **given)
        counts.append(objective.measured()["scale_alarms"])
    assert 0 < counts[0] < counts[1]
    objective.begin()
    assert objective.measured()["scale_alarms"] == 0


WILD = ("prediction", "normalize", "limit", "learn_beta")


def faint():
    """Snapshots of amplitudes of 1e-4."""
    given = LINE.samples(0, 16)
    return replace(given, snapshots=1e-6 * given.snapshots)


def test_what_is_not_for_a_network_of_snapshots():
    with pytest.raises(ValueError, match="adapter="):
        loopos.train(small(), LINE, **RUN, adapter=loopos.LoRA())
    with pytest.raises(ValueError, match="task and teacher"):
        loopos.train(small(), LINE, **RUN, task="dpo")
    with pytest.raises(TypeError, match="must be a Simulation"):
        loopos.train(small(), "text", **RUN)
