"""A failed update is done again bit for bit, and what is not the same is told."""

from __future__ import annotations

import dataclasses
import math

import numpy as np
import pytest

import loopos
from loopos.cli import main
from loopos.health.replay.replay import Repeater, TensorFacts
from loopos.run.bundle import read_bundle, write_bundle

CONFIG = loopos.ModelConfig(vocab_size=32, context_length=8, n_layer=2, n_head=2, d_model=8, dropout=0.1)
IDS = np.random.default_rng(0).integers(0, 32, 400)
NAME = "blocks.1.mlp.up_proj.weight"


class Spoil:
    """Writes ``value`` into one weight after ``step`` updates."""

    def __init__(self, step, value):
        self.step, self.value = step, value

    def on_step_end(self, info):
        if info["step"] == self.step:
            info["model"].parameters()[NAME][3, 2] = self.value


def failed(folder, *callbacks, data=IDS, **settings):
    """Train until it fails; (the error, the model)."""
    model = loopos.Model(CONFIG, dtype=settings.pop("dtype", "float32"))
    settings = {"max_steps": 12, "batch_size": 4, "grad_accum": 2, "progress": False} | settings
    with pytest.raises(loopos.NonFiniteError) as caught:
        loopos.train(model, data, output_dir=folder, callbacks=callbacks, **settings)
    return caught.value, model


FAILURES = {
    "NaN weight": ([Spoil(4, math.nan)], {}),
    "infinite weight": ([Spoil(4, math.inf)], {}),
    "float64": ([Spoil(4, 1e308)], {"dtype": "float64", "max_grad_norm": None}),
    "huge rate": ([], {"learning_rate": 1e300, "lr_schedule": "constant"}),
    "sgd": ([], {"optimizer": "sgd", "learning_rate": 1e38, "max_grad_norm": None, "lr_schedule": "constant"}),
}


@pytest.mark.parametrize("name", FAILURES)
def test_a_failure_is_reproduced_on_any_number_of_threads(name, tmp_path, thread_count):
    callbacks, settings = FAILURES[name]
    thread_count(2)
    error, _ = failed(tmp_path / "run", *callbacks, **settings)
    assert error.bundle == tmp_path / f"run/bundles/step-{error.birth.step:08d}.safetensors"
    assert str(error.bundle) in str(error)
    for threads in (1, 2, 5):
        found = loopos.replay(error.bundle, threads=threads)
        assert found.reproduced
        assert found.birth == error.birth
        assert str(found.birth) == str(error.birth)
        assert (found.step, found.differences, found.build) == (error.birth.step, (), ())
    assert loopos.get_num_threads() == 2


def test_a_healthy_update_is_reproduced_and_a_changed_one_is_not(bundled, tmp_path):
    bundle = bundled()
    write_bundle(tmp_path / "b", bundle)
    found = loopos.replay(tmp_path / "b", threads=3)
    assert found
    assert found.birth is None
    assert math.isfinite(found.loss)
    changed = {name: array.copy() for name, array in bundle.weights.items()}
    changed[NAME][0, 0] = np.nextafter(changed[NAME][0, 0], np.float32(9))
    found = loopos.replay(dataclasses.replace(bundle, weights=changed))
    assert not found
    assert found.differences[-1].startswith(f"grad_norm was {bundle.outcome.grad_norm}, now 0x")
    other = dataclasses.replace(bundle, settings=dataclasses.replace(bundle.settings, seed=12))
    assert not loopos.replay(other)  # another dropout


def test_the_update_of_the_bundle_is_the_one_that_training_takes(bundled):
    bundle = bundled(learning_rate=1e-2, grad_accum=2)

    class Data:
        def batch(self, step, micro):
            return bundle.batches[micro]

    model = loopos.Model(bundle.config, seed=3)
    settings = {"max_steps": 1, "grad_accum": 2, "learning_rate": 1e-2, "lr_schedule": "constant", "seed": 11}
    line = loopos.train(model, Data(), progress=False, **settings).history[0]
    first = loopos.replay(dataclasses.replace(bundle, step=1))
    assert (first.loss.hex(), first.grad_norm.hex()) == (line["loss"].hex(), line["grad_norm"].hex())


def test_every_repetition_begins_at_the_bundle(bundled):
    repeater = Repeater(bundled())
    first = repeater.update()
    moved = repeater.model.state_dict()
    assert repeater.update() == first
    assert all(moved[name].tobytes() == view.tobytes() for name, view in repeater.model.parameters().items())


def test_another_build_is_told(bundled):
    bundle = bundled()
    found = loopos.replay(dataclasses.replace(bundle, build=bundle.build | {"isa": "other", "threads": 99}))
    assert found.reproduced
    assert found.build == (f"isa other there, {bundle.build['isa']} here",)
    assert "bits may differ: isa other there" in str(found)


def test_trace_describes_every_tensor(bundled):
    def spoil(parameters):
        parameters[NAME][:2] = 0

    bundle = bundled(spoil)
    found = loopos.replay(bundle, trace=True)
    rows = {(row.kind, row.tensor): row for row in found.trace}
    assert [row.tensor for row in found.trace if row.kind == "gradient"] == list(bundle.weights)
    weight, array = rows["weight", NAME], bundle.weights[NAME].astype(np.float64)
    assert (weight.smallest, weight.largest, weight.nonfinite) == (array.min(), array.max(), 0)
    assert weight.rms == pytest.approx(math.sqrt((array**2).mean()), rel=1e-12)
    assert weight.zeros == 2 / len(array)
    assert NAME in str(found)
    norm = math.sqrt(sum(row.rms**2 * bundle.weights[row.tensor].size for row in found.trace if row.kind == "gradient"))
    assert norm == pytest.approx(found.grad_norm, rel=1e-6)


def test_facts_of_numbers_that_are_not_finite_or_large():
    assert TensorFacts.of("weight", "w", np.array([math.nan, math.inf]))[2:] == (None, None, None, 0.0, 2)
    assert "min - max - rms - zeros 0.0% nonfinite 2" in str(TensorFacts.of("weight", "w", np.full(2, math.nan)))
    facts = TensorFacts.of("weight", "w", np.array([1e300, -1e300, math.nan, 0.0]))
    assert facts[2:] == (-1e300, 1e300, pytest.approx(1e300 * math.sqrt(2 / 3), rel=1e-15), 0.25, 1)


def test_bad_arguments(bundled, tmp_path):
    bundle = bundled()
    for threads in (0, -1, 10**9):
        with pytest.raises(ValueError, match="threads"):
            loopos.replay(bundle, threads=threads)
    with pytest.raises(TypeError, match="trace"):
        loopos.replay(bundle, trace="yes")
    with pytest.raises(FileNotFoundError):
        loopos.replay(tmp_path / "gone")
    with pytest.raises(FileNotFoundError, match="no bundle"):
        loopos.replay(tmp_path)
    foreign = dataclasses.replace(bundle, weights={"w": np.zeros(3, np.float32)})
    write_bundle(tmp_path / "foreign", foreign)
    with pytest.raises(loopos.CheckpointError, match=r"foreign: its arrays are not those of its model: .*missing"):
        loopos.replay(tmp_path / "foreign")


def test_the_command(tmp_path, capsys):
    error, _ = failed(tmp_path / "run", Spoil(4, math.nan))
    assert main(["replay", str(error.bundle), "--threads", "1", "--why", "--trace"]) == 0
    out = capsys.readouterr().out
    assert "step 5: reproduced bit for bit" in out
    assert "verdict: the model" in out
    assert f"weight   {NAME}" in out
    bundle = read_bundle(tmp_path / "run")
    outcome = dataclasses.replace(bundle.outcome, valid_tokens=63)
    write_bundle(tmp_path / "other", dataclasses.replace(bundle, outcome=outcome))
    assert main(["replay", str(tmp_path / "other")]) == 1
    assert "valid_tokens was 63, now 64" in capsys.readouterr().out
    assert main(["replay", str(tmp_path / "gone")]) == 2
    assert main(["replay", str(error.bundle), "--threads", "0"]) == 2
    assert capsys.readouterr().err.count("loopos replay: ") == 2
