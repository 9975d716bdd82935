"""loopos.trace_step: the numbers of every tensor of a step, and healthy steps that raise no alarm."""

from __future__ import annotations

import runpy
from itertools import pairwise
from pathlib import Path

import numpy as np
import pytest

import loopos
from loopos import testing

FALSE_ALARMS = runpy.run_path(str(Path(__file__).resolve().parents[2] / "benchmarks/false_alarms.py"))
LONG_TRAINING = pytest.mark.unsanitized("trains for a minute what test_model and test_resume take steps of")


def test_frames_are_the_tensors_in_order_with_their_numbers(family, batch):
    model, (ids, targets) = loopos.Model(family, seed=1), batch(family)
    before = model.state_dict()
    frames = loopos.trace_step(model, ids, targets)
    _, gradients = model.loss_and_grads(ids, targets)
    for name, value in model.parameters().items():
        np.testing.assert_array_equal(value, before[name])
    weights = [frame for frame in frames if frame["op"] == "parameter"]
    assert [frame["tensor"] for frame in weights] == list(before)
    phases = [frame["phase"] for frame in frames]
    assert phases == ["forward"] * phases.index("backward") + ["backward"] * phases.count("backward")
    last = {(frame["phase"], frame["tensor"]): frame for frame in frames}
    arrays = {("forward", name): w for name, w in before.items()}
    arrays |= {("backward", name): g for name, g in gradients.items()} | {("forward", "logits"): model.forward(ids)}
    for key, array in arrays.items():
        frame, wide = last[key], array.astype(np.float64)
        assert frame["shape"] == array.shape
        assert (frame["min"], frame["max"]) == (array.min(), array.max())
        assert frame["rms"] == pytest.approx(np.sqrt(np.mean(wide**2)), rel=1e-12)
        assert frame["zeros"] == np.count_nonzero(array == 0) / array.size
        assert (frame["nonfinite"], frame["flags"]) == (0, ())
    assert last["backward", "pos_embed.weight" if "pos_embed.weight" in before else "tok_embed.weight"]["zeros"] > 0


def test_scores_are_those_a_causal_query_sees(batch):
    config = loopos.ModelConfig(vocab_size=31, context_length=16, n_layer=1, n_head=2, d_model=8, n_kv_head=1)
    model, (ids, targets) = loopos.Model(config, seed=1), batch(config)
    model.parameters()["blocks.0.attn.qkv_proj.weight"][...] *= 30
    frames = {frame["tensor"]: frame for frame in loopos.trace_step(model, ids, targets) if frame["phase"] == "forward"}
    x = (model.parameters()["tok_embed.weight"][ids] + model.parameters()["pos_embed.weight"][: ids.shape[1]]).astype(
        float
    )
    normed = (x - x.mean(-1, keepdims=True)) / np.sqrt(x.var(-1, keepdims=True) + config.norm_eps)
    q0, q1, k, _ = np.split(normed @ model.parameters()["blocks.0.attn.qkv_proj.weight"].T.astype(float), 4, axis=-1)
    scores = np.stack([q @ k.transpose(0, 2, 1) / 2 for q in (q0, q1)], 1)
    seen = scores[..., np.tril(np.ones(scores.shape[-2:], bool))]
    frame = frames["blocks.0.attn.scores"]
    assert frame["shape"] == scores.shape
    for got, expected in (
        (frame["min"], seen.min()),
        (frame["max"], seen.max()),
        (frame["rms"], np.sqrt((seen**2).mean())),
    ):
        assert got == pytest.approx(expected, rel=1e-4)


def test_the_ledger_does_not_depend_on_threads(family, batch, thread_count):
    model, (ids, targets) = loopos.Model(family, seed=1), batch(family, rows=7)
    ledgers = []
    for threads in (1, 2, 5):
        thread_count(threads)
        ledgers.append(loopos.trace_step(model, ids, targets))
    assert ledgers[0] == ledgers[1] == ledgers[2]


def test_a_bad_step_ends_with_its_first_bad_tensor(family, batch):
    model, (ids, targets) = loopos.Model(family, seed=1), batch(family)
    with testing.planted(model, "blocks.1.mlp.y", (1, 2, 3), np.nan):
        frames = loopos.trace_step(model, ids, targets)
    assert frames[-1]["tensor"] == "blocks.1.mlp.y"
    assert frames[-1]["nonfinite"] == 1 / np.prod(frames[-1]["shape"])
    with testing.planted(model, "blocks.1.mlp.y", None, np.inf):
        last = loopos.trace_step(model, ids, targets)[-1]
    assert (last["min"], last["max"], last["rms"], last["nonfinite"]) == (None, None, None, 1)


def test_rows_below_eps_are_counted_where_they_are(family, batch):
    model, (ids, targets) = loopos.Model(family, seed=1), batch(family)

    def floored():
        return {f["tensor"]: f["eps_rows"] for f in loopos.trace_step(model, ids, targets) if f.get("eps_rows")}

    assert floored() == {}
    with testing.planted(model, "embed.y", None, 1e-4):
        assert floored()["blocks.0.attn_norm.y"] == ids.size


def test_the_growth_of_the_signal_can_be_read_off(batch):
    config = loopos.ModelConfig(vocab_size=31, context_length=16, n_layer=4, n_head=4, d_model=32)
    model, (ids, targets) = loopos.Model(config, seed=1), batch(config)
    for layer in range(4):
        model.parameters()[f"blocks.{layer}.mlp.down_proj.weight"][...] *= 1000
    streams = [f["rms"] for f in loopos.trace_step(model, ids, targets) if f["tensor"].endswith("mlp_residual.y")]
    assert len(streams) == 4
    assert all(later > 1.1 * earlier for earlier, later in pairwise(streams))


def test_wrong_arguments_are_refused(family, batch):
    model, (ids, targets) = loopos.Model(family, seed=1), batch(family)
    with pytest.raises(TypeError, match="must be a Model"):
        loopos.trace_step("model", ids, targets)
    with pytest.raises(IndexError):
        loopos.trace_step(model, ids + 31, targets)


@pytest.mark.parametrize(
    "name",
    [pytest.param(name, marks=[] if name in ("gpt", "llama") else LONG_TRAINING) for name in FALSE_ALARMS["MODELS"]],
)
def test_healthy_steps_raise_no_alarm(name):
    alarms, _, loss = FALSE_ALARMS["run"](name, 60)
    assert alarms == []
    assert loss < 5.0


def test_an_alarm_would_be_seen():
    setting = FALSE_ALARMS["MODELS"]["gpt"]
    FALSE_ALARMS["MODELS"]["sick"] = setting | {"train": {"learning_rate": 1e30, "max_grad_norm": None}}
    alarms, _, _ = FALSE_ALARMS["run"]("sick", 5)
    assert len(alarms) >= 1
    assert "not finite" in alarms[0]
