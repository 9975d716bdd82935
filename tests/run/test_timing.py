"""How long the parts of a run take: the arithmetic, by a clock that only what is under test moves."""

from __future__ import annotations

import contextlib
import os
import types
import weakref

import numpy as np
import pytest

import loopos
from loopos.run import timing
from loopos.run.timing import checkpoint_seconds, due, evaluation_seconds, update_seconds
from loopos.training import default_settings


class Clock:
    now = 0.0

    def __call__(self):
        return self.now


@pytest.fixture
def clock(monkeypatch):
    found = Clock()
    monkeypatch.setattr(timing.time, "perf_counter", found)
    return found


class Core:
    """A pass takes a second a position, a norm 5, a loss half a second a position; the first of all 100 more."""

    def __init__(self, clock):
        self._clock, self.passes, self.cold = clock, [], 100

    def accumulate(self, ids, targets, **keywords):
        self._clock.now += ids.size + self.cold
        self.passes.append((ids.shape, keywords))
        self.cold = 0

    def grad_norm(self):
        self._clock.now += 5
        return 1.0

    def loss(self, ids, targets, ignored, *documents):
        self._clock.now += ids.size / 2 + self.cold
        self.cold = 0


class Source:
    """Rows whose widths take turns; to fetch a batch takes 2 seconds."""

    def __init__(self, clock, widths, documents=False, masked=False):
        self._clock, self._widths, self._documents, self._masked = clock, widths, documents, masked

    def batch(self, step, micro):
        self._clock.now += 2
        ids = np.zeros((1, self._widths[step % len(self._widths)]), np.int64)
        return (ids, ids - 100 * self._masked, *([ids] if self._documents else []))


@pytest.fixture
def steps(clock, monkeypatch):
    """The rules whose step was taken, which takes 3 seconds."""
    taken = []

    def making(rule, model, **settings):
        def step_core(rate, factor, norm):
            assert rate == 0
            taken.append(rule)
            clock.now += 3

        return types.SimpleNamespace(step_core=step_core)

    monkeypatch.setattr(timing, "for_training", making)
    return taken


def model_on(clock):
    return types.SimpleNamespace(_core=Core(clock), lock=contextlib.nullcontext())


@pytest.mark.parametrize(
    ("optimizer", "moments", "rule", "factor"),
    [("sgd", 0, "sgd", 1), ("lion", 1, "sgd", 1 + 2 / 3), ("adamw", 2, "sgd", 1 + 4 / 3), ("muon", 1.5, "muon", 1)],
)
def test_an_update_is_its_batches_its_passes_and_its_step(clock, steps, optimizer, moments, rule, factor):
    """The step of a rule is that of SGD, times what it moves: (3 + 2 moments) / 3 numbers."""
    model, settings = model_on(clock), default_settings(optimizer=optimizer, grad_accum=4)
    found = update_seconds(model, settings, Source(clock, [8]), 0, 100, moments)
    assert found == pytest.approx(4 * (2 + 8) + 5 + 3 * factor)
    assert steps == [rule] * 2
    assert len(model._core.passes) == 1 + timing.PROBES  # of which the first, the slow one, warms up


def test_batches_of_unequal_width_count_as_they_come(clock, steps):
    """Half of the rows are 4 wide, a quarter 8, a quarter 16: 8 on the mean."""
    model = model_on(clock)
    found = update_seconds(model, default_settings(optimizer="sgd"), Source(clock, [4, 8, 4, 16]), 0, 16, 0)
    assert found == 2 + 8 + 5 + 3
    assert model._core.passes[0][0] == (1, 16)  # the widest takes the memory of them all


def test_no_batch_is_kept(clock, steps):
    """Sixteen of pictures would be more than the run holds at any time."""
    alive, most = weakref.WeakSet(), []

    class Ids(np.ndarray):  # which can be referred to weakly by a set
        __hash__ = object.__hash__

    class Watched(Source):
        def batch(self, step, micro):
            ids, targets = super().batch(step, micro)
            ids = ids.view(Ids)
            alive.add(ids)
            most.append(len(alive))
            return ids, targets

    update_seconds(model_on(clock), default_settings(optimizer="sgd"), Watched(clock, [4]), 0, 100, 0)
    assert len(most) == timing.LOOKED_AT + 1 + timing.PROBES
    assert max(most) <= 3


def test_a_run_that_is_gone_on_with_looks_at_what_is_left(clock, steps):
    found = update_seconds(model_on(clock), default_settings(optimizer="sgd"), Source(clock, [4] * 20 + [8]), 20, 21, 0)
    assert found == 2 + 8 + 5 + 3


def test_a_short_run_is_not_held_up(clock, steps):
    for updates, passes in ((3, 1), (40, 2), (1000, timing.PROBES)):
        model = model_on(clock)
        update_seconds(model, default_settings(), Source(clock, [4]), 0, updates, 2)
        assert len(model._core.passes) == 1 + passes


def test_documents_reach_the_pass_and_a_batch_without_a_target_makes_none(clock, steps):
    model, settings = model_on(clock), default_settings(grad_accum=3)
    update_seconds(model, settings, Source(clock, [4], documents=True), 0, 9, 2)
    assert all("documents" in keywords for _, keywords in model._core.passes)
    model = model_on(clock)
    assert update_seconds(model, settings, Source(clock, [4], masked=True), 0, 9, 2) == 3 * 2
    assert model._core.passes == []


@pytest.mark.parametrize("widths", [[8, 8, 8], [8, 4, 12]])
def test_an_evaluation_is_all_of_its_batches(clock, widths):
    source = Source(clock, widths)
    assert evaluation_seconds(model_on(clock), (source.batch(i, 0) for i in range(3))) == 3 * 2 + 24 / 2
    assert evaluation_seconds(model_on(clock), []) == 0


def test_a_checkpoint_is_its_bytes_and_what_is_synced(clock, monkeypatch, tmp_path):
    """10 seconds to sync the sample, 10 for each of the syncs: what is written grows, what is synced does not."""
    monkeypatch.setattr(timing.os, "fsync", lambda file: setattr(clock, "now", clock.now + 10))
    assert checkpoint_seconds(tmp_path / "not" / "yet", 1 << 20) == 10 + 10 * timing.SYNCS
    assert checkpoint_seconds(tmp_path, 3 * timing.SAMPLE) == 3 * 10 + 10 * timing.SYNCS
    assert os.listdir(tmp_path) == []
    (tmp_path / "file").touch()

    def full(file):
        raise OSError(28, "No space left on device")

    monkeypatch.setattr(timing.os, "fsync", full)
    with pytest.raises(OSError, match="how long a checkpoint takes"):
        checkpoint_seconds(tmp_path, 8)


def test_how_often():
    assert [due(every, 0, 10) for every in (None, 1, 3, 5, 10, 11)] == [1, 10, 4, 2, 1, 1]
    assert [due(every, 4, 10) for every in (None, 3, 5)] == [1, 3, 2]  # the 6th, 9th and 10th; the 5th and 10th
    assert due(3, 10, 10) == due(None, 10, 10) == 0


@pytest.mark.parametrize("every", [None, 2, 3, 7])
@pytest.mark.parametrize("first", [0, 3])
def test_a_run_evaluates_and_saves_as_often(every, first, tmp_path, stop_after):
    counted = []

    class Count:
        def on_evaluate(self, info):
            counted.append("evaluation")

        def on_save(self, info):
            counted.append("checkpoint")

    def run(*callbacks, **more):
        common = {"batch_size": 2, "eval_every": every, "save_every": every, "output_dir": tmp_path, "progress": False}
        ids = np.arange(200) % 31
        loopos.train(config, ids, eval_data=ids[:40], max_steps=7, callbacks=callbacks, **common, **more)

    config = loopos.ModelConfig(31, 8, 1, 2, 8)
    if first:
        run(stop_after(first))
    run(Count(), resume="auto")
    assert counted.count("evaluation") == counted.count("checkpoint") == due(every, first, 7)
