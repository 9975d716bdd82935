"""Each verdict on a failure that was planted."""

from __future__ import annotations

import dataclasses
import math

import numpy as np
import pytest

import loopos
from loopos.data.batches import IGNORE
from loopos.run.bundle import write_bundle

NAME = "blocks.1.mlp.up_proj.weight"


def ids_with(*rows, shape=(2, 4, 9)):
    """Ids without token 31 but in these (micro-batch, row)."""
    ids = np.random.default_rng(0).integers(0, 31, shape)
    for micro, row in rows:
        ids[micro, row, 3] = 31
    return ids


def one_token_overflows(parameters):
    """Finite weights; the sum of token 31 and any position is not."""
    parameters["pos_embed.weight"][:, 0] = 1e38
    parameters["tok_embed.weight"][31, 0] = 3e38


@pytest.mark.parametrize("rows", [[(1, 2)], [(0, 0)], [(0, 1), (1, 3), (1, 0)]])
def test_the_data(bundled, rows):
    found = loopos.counterfactuals(bundled(one_token_overflows, ids=ids_with(*rows)))
    assert found.verdict == "the data"
    assert sorted(found.rows) == sorted(rows)
    assert all(f"row {row} of micro-batch {micro}" in found.why for micro, row in rows)
    assert [trial.healthy for trial in found.trials] == [False, True]


def test_one_row_of_many_is_found_by_halving(bundled, monkeypatch):
    from loopos.health.replay import counterfactuals as module

    bundle = bundled(one_token_overflows, ids=ids_with((1, 37), shape=(2, 64, 9)))
    calls, real = [], module.Repeater.update
    monkeypatch.setattr(module.Repeater, "update", lambda *args, **kw: calls.append(1) or real(*args, **kw))
    assert loopos.counterfactuals(bundle).rows == ((1, 37),)
    assert len(calls) <= 1 + 1 + 2 * math.log2(128) + 1


def test_most_rows_are_not_a_bad_row(bundled):
    rows = [(0, 0), (0, 1), (0, 2), (1, 1), (1, 2)]
    assert loopos.counterfactuals(bundled(one_token_overflows, ids=ids_with(*rows))).verdict == "the precision"


def test_the_precision(bundled):
    def spoil(parameters):
        parameters["pos_embed.weight"][:, 0] = 2e38
        parameters["tok_embed.weight"][:, 0] = 2e38

    found = loopos.counterfactuals(bundled(spoil))
    assert (found.verdict, found.rows) == ("the precision", ())
    assert [(trial.changed, trial.healthy) for trial in found.trials] == [("as it was", False), ("in float64", True)]
    assert "too large for float32" in str(found)


def test_products_of_a_lesser_precision(bundled, monkeypatch):
    """An update that fails by what bfloat16 rounds away."""
    from loopos.health.replay import counterfactuals as module

    bundle = bundled(one_token_overflows, ids=ids_with(*((m, r) for m in range(2) for r in range(4))))
    bundle = dataclasses.replace(bundle, settings=dataclasses.replace(bundle.settings, precision="bf16"))
    real, sound = module.Repeater.update, module.Repeater(bundled()).update()

    def update(self, *args, **keywords):
        return sound if self.model.precision == "float32" else real(self, *args, **keywords)

    monkeypatch.setattr(module.Repeater, "update", update)
    found = loopos.counterfactuals(bundle)
    assert found.verdict == "the precision"
    assert found.trials[-1][:2] == ("with float32 products", True)
    assert "what precision bf16 rounds away" in found.why


@pytest.mark.parametrize("factor", [1.5, 1e200])
def test_the_rate(bundled, factor):
    def spoil(parameters):  # steep, so that a rate which float32 can hold is enough
        parameters["lm_head.weight"][...] *= 1e4

    calm = {"optimizer": "sgd", "max_grad_norm": None, "weight_decay": 0.0}
    gradients = [row for row in loopos.replay(bundled(spoil, **calm), trace=True).trace if row.kind == "gradient"]
    largest = max(max(row.largest, -row.smallest) for row in gradients)
    rate = factor * float(np.finfo(np.float32).max) / largest
    found = loopos.counterfactuals(bundled(spoil, learning_rate=rate, **calm))
    assert found.verdict == "the rate"
    assert found.trials[0].birth.phase == "update"
    assert found.trials[-1].changed == ("half the learning rate" if factor < 2 else "a learning rate of 0")


@pytest.mark.parametrize(
    ("optimizer", "rate"), [("sgd", 1e6), ("sgd", 1e10), ("sgd", 1e30), ("adamw", 1e12), ("adamw", 1e30)]
)
def test_the_verdict_on_an_exploded_run_is_that_of_its_birth(optimizer, rate, tmp_path):
    config = loopos.ModelConfig(vocab_size=256, context_length=16, n_layer=2, n_head=2, d_model=16)
    settings = {"optimizer": optimizer, "learning_rate": rate, "lr_schedule": "constant", "weight_decay": 0.0}
    with pytest.raises(loopos.NonFiniteError) as caught:
        loopos.train(
            config,
            "to be, or not to be, that is the question: " * 30,
            output_dir=tmp_path,
            max_steps=60,
            batch_size=4,
            max_grad_norm=None,
            progress=False,
            **settings,
        )
    assert caught.value.birth.cause_class == "learning rate too large"
    found = loopos.counterfactuals(tmp_path)
    assert found.verdict == "the rate"
    assert "In float64 the update is healthy" not in found.why


@pytest.mark.parametrize("value", [math.nan, math.inf])
def test_the_model_with_a_weight_that_is_not_finite(bundled, value):
    def spoil(parameters):
        parameters[NAME][0, 0] = value

    found = loopos.counterfactuals(bundled(spoil))
    assert found.verdict == "the model"
    assert f"weight {NAME} held 1 number" in found.why


def test_the_model_with_weights_beyond_float64(bundled):
    def spoil(parameters):
        parameters["pos_embed.weight"][:, 0] = 1e308
        parameters["tok_embed.weight"][:, 0] = 1e308

    found = loopos.counterfactuals(bundled(spoil, dtype="float64"))
    assert found.verdict == "the model"
    assert "Each row fails alone" in found.why


@pytest.mark.filterwarnings("ignore:.*left the range:RuntimeWarning")  # norms near the limit, done again with more
def test_the_model_with_its_dropout(bundled):
    def spoil(parameters):
        parameters["tok_embed.weight"][:, 0] = 1.5e308

    found = loopos.counterfactuals(bundled(spoil, dtype="float64", dropout=0.4))
    assert (found.verdict, found.trials[-1].changed) == ("the model", "without dropout")
    assert "dropout of 0.4" in found.why


def test_undecided_when_nothing_fails(bundled, tmp_path):
    write_bundle(tmp_path / "b", bundled())
    found = loopos.counterfactuals(tmp_path / "b")
    assert (found.verdict, found.rows) == ("undecided", ())


def test_rows_without_a_target_are_not_asked(bundled):
    import dataclasses

    bundle = bundled(one_token_overflows, ids=ids_with((0, 1), (1, 2)))
    batches = [(ids, targets.copy()) for ids, targets in bundle.batches]
    batches[0][1][:] = IGNORE
    found = loopos.counterfactuals(dataclasses.replace(bundle, batches=batches))
    assert (found.verdict, found.rows) == ("the data", ((1, 2),))
