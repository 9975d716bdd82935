"""loopos.doctor as a whole: nothing to say of what is sound, and nothing left changed."""

from __future__ import annotations

import random

import numpy as np
import pytest
from processes import in_process

import loopos
from loopos.health.doctor.doctor import EXAMINATIONS
from loopos.health.doctor.report import FAIL, OK, SKIPPED


@pytest.mark.parametrize("dtype", ["float32", "float64"])
def test_a_sound_model_has_no_problem(family, dtype, text):
    config = loopos.ModelConfig(**family.to_dict() | {"vocab_size": 256})
    report = loopos.doctor(loopos.Model(config, dtype=dtype), text)
    assert report.problems == ()
    assert report.ok
    assert bool(report)
    assert {check.verdict for check in report.checks if check.name != "precision"} == {OK}
    assert report["precision"].verdict in (OK, SKIPPED)  # without tiles, and of float64, there is nothing to measure
    assert len(report.checks) >= 30


SOUND = """
import json, sys, loopos
config = loopos.ModelConfig(256, 32, 2, 2, 64, n_kv_head=1, norm="rmsnorm", activation="swiglu", position="rope")
report = loopos.doctor(config, sys.argv[1] * 8, precision=sys.argv[2], batch_size=8)
of_model = loopos.doctor(loopos.Model(config, precision=sys.argv[2]), sys.argv[1] * 8, quick=True)
problems = [str(check) for each in (report, of_model) for check in each.checks if check.verdict in ("fail", "warn")]
print(json.dumps([problems, loopos.Model(config, precision=sys.argv[2]).products]))
"""


@pytest.mark.unsanitized("processes of their own")
@pytest.mark.parametrize("precision", ["bf16x3", "bf16"])
@pytest.mark.parametrize("products", ["fma", "emulated"])
def test_a_sound_model_is_sound_in_every_precision(precision, products, text):
    problems, computed = in_process("-c", SOUND, text, precision, LOOPOS_PRODUCTS=products)
    assert problems == []
    assert computed == ("fma" if products == "fma" else f"emulated {precision}")


@pytest.mark.parametrize(
    "options",
    [
        {"n_layer": 1, "n_head": 1, "d_model": 8, "context_length": 4},
        {"dropout": 0.2, "activation": "relu", "bias": False},
        {"norm": "rmsnorm", "activation": "gelu", "tie_embeddings": False, "n_layer": 6},
    ],
)
def test_other_shapes_are_sound_too(options, config, text):
    report = loopos.doctor(config(**options), text, optimizer="adam", grad_accum=2, batch_size=3)
    assert report.problems == (), report


def test_nothing_is_changed(config, text):
    model = loopos.Model(config(dropout=0.1))
    model.parameters()["blocks.0.mlp.up_proj.bias"][3] = np.float32(-0.0)
    optimizer = loopos.optim.AdamW(model)
    optimizer.step(model.loss_and_grads(*np.zeros((2, 1, 4), np.int64))[1])
    random.seed(7)
    np.random.seed(7)  # noqa: NPY002 (the legacy generator is what is looked at)
    states = [
        lambda: {name: view.tobytes() for name, view in model.parameters().items()},
        lambda: {name: np.asarray(value).tobytes() for name, value in optimizer.state_dict().items()},
        lambda: (random.getstate(), str(np.random.get_state())),  # noqa: NPY002
        loopos.get_num_threads,
    ]
    before = [state() for state in states]
    loopos.doctor(model, text, threads=1)
    loopos.doctor(model, text, quick=True)
    assert [state() for state in states] == before


def test_weights_are_put_back_when_a_check_is_interrupted(config, text):
    def trainer(model, data, **settings):
        for view in model.parameters().values():
            view += 1
        raise KeyboardInterrupt

    model = loopos.Model(config())
    before = {name: view.tobytes() for name, view in model.parameters().items()}
    with pytest.raises(KeyboardInterrupt):
        loopos.doctor(model, text, trainer=trainer)
    assert {name: view.tobytes() for name, view in model.parameters().items()} == before


def test_the_quick_round_is_a_part_of_the_full_one(config, text):
    full, quick = (loopos.doctor(config(), text, quick=quick) for quick in (False, True))
    names = [[check.name for check in report.checks] for report in (full, quick)]
    assert (full.quick, quick.quick) == (False, True)
    assert set(names[0]) - set(names[1]) == {"overfit a batch", "width", "precision"}


def test_one_dict_of_settings_serves_train_and_doctor(config, text, tmp_path):
    settings = dict(max_steps=2, learning_rate=1e-3, progress=False, output_dir=tmp_path, threads=1, log_every=1)
    assert loopos.doctor(config(), text, **settings).ok
    assert list(tmp_path.iterdir()) == []
    assert loopos.train(config(), text, **settings).step == 2


def test_bad_arguments_are_refused_as_in_train(config, text):
    with pytest.raises(TypeError, match="learnig_rate is no setting"):
        loopos.doctor(config(), text, learnig_rate=1)
    with pytest.raises(ValueError, match="learning_rate"):
        loopos.doctor(config(), text, learning_rate=-1)
    with pytest.raises(ValueError, match="too few for seq_len 16"):
        loopos.doctor(config(), "short text")
    with pytest.raises(TypeError, match="model must be a Model"):
        loopos.doctor(object(), text)
    with pytest.raises(TypeError, match="trainer"):
        loopos.doctor(config(), text, trainer=3)


def test_what_is_out_of_range_is_a_finding(config):
    ids = np.arange(200)
    ids[70] = 256
    report = loopos.doctor(config(), ids)
    assert not report.ok
    assert "id 256 at position 70" in report["labels"].measured
    assert [check.verdict for check in report.checks[1:]] == [SKIPPED] * len(EXAMINATIONS)


def test_a_weight_that_is_not_finite_is_named(config, text):
    model = loopos.Model(config())
    model.parameters()["blocks.1.mlp.down_proj.weight"][3, 5] = np.nan
    report = loopos.doctor(model, text)
    assert report["weights"].verdict == FAIL
    assert "blocks.1.mlp.down_proj.weight[3, 5]" in report["weights"].measured
    assert "blocks.1.mlp.down_proj.weight" in report["train and evaluation"].measured  # the birth
    assert np.isnan(model.parameters()["blocks.1.mlp.down_proj.weight"][3, 5])


def test_an_error_of_the_code_looked_at_is_a_finding(config, text):
    def trainer(*args, **kwargs):
        raise ZeroDivisionError("planted")

    report = loopos.doctor(config(), text, trainer=trainer)
    assert report["updates"].verdict == FAIL
    assert "ZeroDivisionError: planted" in report["updates"].measured
    assert report["gradcheck"].verdict == OK


class Bigram:
    """A model that is no loopos.Model: a table of logits by token, with only what must be there."""

    def __init__(self):
        self.table = np.random.default_rng(0).normal(0, 0.02, (256, 256))

    def parameters(self):
        return {"table": self.table}

    def loss(self, ids, targets):
        return loopos.ops.cross_entropy(self.table[ids.reshape(-1)], targets.reshape(-1))[0]

    def loss_and_grads(self, ids, targets):
        dlogits = loopos.ops.cross_entropy_backward(1.0, self.table[ids.reshape(-1)], targets.reshape(-1))
        return self.loss(ids, targets), {"table": loopos.ops.embedding_backward(dlogits, ids.reshape(-1), 256)}


def test_any_object_with_gradients_can_be_looked_at(text):
    model = Bigram()
    before = model.table.copy()
    report = loopos.doctor(model, text, seq_len=8)
    assert report.ok
    for name in ("gradient reaches", "updates", "train and evaluation"):
        assert report[name].verdict == OK, report
    assert report["causality"].verdict == SKIPPED
    assert (model.table == before).all()


@pytest.mark.parametrize("context", [1, 2, 3])
def test_the_shortest_contexts(context, text):
    report = loopos.doctor(loopos.ModelConfig(256, context, 1, 1, 16), text)
    assert [check.name for check in report.problems] == (["windows"] if context == 1 else []), report
