"""The loop: what it computes, what it reports, when it stops."""

import math

import numpy as np
import pytest

import loopos

CONFIG = loopos.ModelConfig(vocab_size=256, context_length=16, n_layer=2, n_head=2, d_model=16, dropout=0.1)
TEXT = b"the quick brown fox jumps over the lazy dog, and again. " * 40
KEYS = {"step", "loss", "grad_norm", "learning_rate", "epoch", "tokens_per_second", "valid_tokens", "nonfinite"}
COUNTS = {"attempted", "applied", "skipped", "clipped"}
PLAIN = {name: int for name in ("step", "valid_tokens", "nonfinite", *COUNTS)}


def train(model=CONFIG, data=TEXT, **kwargs):
    return loopos.train(model, data, **({"max_steps": 12, "batch_size": 4, "progress": False} | kwargs))


def bits(model):
    return b"".join(view.tobytes() for view in model.parameters().values())


def test_it_learns_and_every_parameter_moves():
    model = loopos.Model(CONFIG, seed=3)
    before = model.state_dict()
    result = train(model, max_steps=60, learning_rate=1e-2)
    assert result.model is model
    assert result.step == 60
    assert result.stopped is None
    assert result.output_dir is None
    assert result.history[0]["loss"] == pytest.approx(math.log(256), abs=0.1)
    assert result.history[-1]["loss"] < 3.0
    assert all(not np.array_equal(before[name], view) for name, view in model.parameters().items())


def test_history_has_the_lines_and_the_numbers_it_promises():
    history = train(log_every=5, warmup_steps=4, learning_rate=1e-3, grad_accum=2).history
    assert [line["step"] for line in history] == [1, 5, 10, 12]
    for line in history:
        assert set(line) == KEYS | COUNTS
        assert all(type(value) is PLAIN.get(key, float) for key, value in line.items())
        assert line["valid_tokens"] == 2 * 4 * 16
        assert line["tokens_per_second"] > 0
        assert line["nonfinite"] == 0
    windows = (len(TEXT) - 1) // 16
    assert history[-1]["epoch"] == pytest.approx(12 / math.ceil(windows / 8))
    assert history[0]["learning_rate"] == pytest.approx(1e-3 / 4)
    assert history[1]["learning_rate"] == pytest.approx(1e-3)  # t = 4, p = 0
    assert history[3]["learning_rate"] == pytest.approx(1e-3 * (1 + math.cos(math.pi * 7 / 8)) / 2)


def test_a_config_is_built_with_the_seed():
    model = loopos.Model(CONFIG, seed=77)
    assert bits(train(seed=77).model) == bits(train(model, seed=77).model)
    assert bits(train(seed=78).model) != bits(model)


def test_nothing_beside_the_arithmetic_changes_a_bit(tmp_path, capsys):
    plain = train(grad_accum=2)

    class Busy(loopos.Callback):
        def on_step_end(self, info):
            ids = np.zeros((1, 3), np.int64)
            info["model"].loss_and_grads(ids, ids)
            info["model"].generate(ids, 2)

    busy = train(
        grad_accum=2,
        log_every=1,
        eval_data=TEXT[:300],
        eval_every=2,
        save_every=3,
        output_dir=tmp_path / "run",
        callbacks=[Busy()],
        threads=3,
        progress=True,
    )
    assert bits(busy.model) == bits(plain.model)
    assert [line["loss"] for line in busy.history if line["step"] in (1, 10, 12)] == [h["loss"] for h in plain.history]


def test_threads_hold_for_the_call(thread_count):
    thread_count(2)
    seen = []

    class Look:
        def on_step_end(self, info):
            seen.append(loopos.get_num_threads())
            raise RuntimeError("after an error too")

    with pytest.raises(RuntimeError, match="after an error too"):
        train(threads=5, callbacks=[Look()])
    assert seen == [5]
    assert loopos.get_num_threads() == 2


def test_learning_rate_zero_leaves_every_bit():
    for optimizer in ("adamw", "adam", "sgd"):
        model = loopos.Model(CONFIG)
        next(iter(model.parameters().values()))[0, 0] = -0.0
        before = bits(model)
        result = train(model, learning_rate=0, optimizer=optimizer)
        assert bits(model) == before
        assert result.history[-1]["grad_norm"] > 0
        assert result.history[-1]["learning_rate"] == 0.0


@pytest.mark.parametrize("dtype", ["float32", "float64"])
@pytest.mark.parametrize("optimizer", ["adamw", "adam", "sgd"])
def test_every_optimizer_learns_in_both_dtypes(optimizer, dtype):
    model = loopos.Model(CONFIG, dtype=dtype)
    rate = 0.5 if optimizer == "sgd" else 1e-2
    result = train(model, optimizer=optimizer, learning_rate=rate, max_steps=25, max_grad_norm=None)
    assert result.history[-1]["loss"] < result.history[0]["loss"] - 0.5


def test_dropout_acts_in_training_only():
    wet, dry = (
        train(loopos.Model(loopos.ModelConfig(256, 16, 2, 2, 16, dropout=p)), max_steps=1).history[0] for p in (0.5, 0)
    )
    assert wet["loss"] != dry["loss"]
    assert wet["grad_norm"] != dry["grad_norm"]


def test_dropout_is_another_one_at_every_step_and_micro_batch():
    ids = np.arange(32).reshape(2, 16)

    class Same:
        def batch(self, step, micro):
            if micro != lone:
                return ids, np.full_like(ids, -100)
            return ids, ids

    losses = []
    for lone in (0, 1):  # noqa: B007 (Same.batch reads it)
        history = train(data=Same(), grad_accum=2, learning_rate=0, max_steps=3, log_every=1).history
        losses += [line["loss"] for line in history]
    assert len(set(losses)) == 6


def test_weight_decay_spares_vectors():
    weak, strong = (train(weight_decay=decay, max_steps=1, learning_rate=1e-2).model for decay in (0.0, 0.5))
    for name, view in weak.parameters().items():
        assert np.array_equal(view, strong.parameters()[name]) == (view.ndim < 2), name


# How long


def test_epochs_and_max_steps():
    per_epoch = math.ceil(((len(TEXT) - 1) // 16) / 8)
    assert train(max_steps=None, grad_accum=2).step == per_epoch
    assert train(max_steps=None, epochs=2, grad_accum=2).step == 2 * per_epoch
    assert train(max_steps=3, epochs=2).step == 3
    assert train(max_steps=10**6, epochs=1, grad_accum=2).step == per_epoch


def test_more_batch_than_windows_is_legal():
    assert train(data=TEXT[:40], batch_size=7, max_steps=3).history[-1]["valid_tokens"] == 7 * 16


def test_a_callback_stops_after_the_step():
    class Stop:
        def on_step_end(self, info):
            return np.bool_(info["step"] == 5)

    result = train(callbacks=[Stop()], eval_data=TEXT[:100])
    assert result.step == 5
    assert result.stopped == "callback"
    assert [line["step"] for line in result.history] == [1, 5]
    assert "eval_loss" in result.history[-1]


# Evaluation


def test_eval_loss_is_the_mean_over_every_token_of_the_stream():
    model = loopos.Model(CONFIG, dtype="float64")
    held_out = TEXT[5:200]
    result = train(model, eval_data=held_out, eval_every=4, log_every=100, learning_rate=1e-2)
    assert [line["step"] for line in result.history if "eval_loss" in line] == [4, 8, 12]
    ids = np.frombuffer(held_out, np.uint8).astype(np.int64)
    total = 0.0
    for start in range(0, len(ids) - 1, 16):
        piece = ids[start : start + 17]
        total += model.loss(piece[None, :-1], piece[None, 1:]) * (len(piece) - 1)
    assert result.history[-1]["eval_loss"] == pytest.approx(total / (len(ids) - 1), rel=1e-12)


def test_without_eval_every_the_end_is_evaluated():
    result = train(eval_data=TEXT[:100])
    assert [line["step"] for line in result.history if "eval_loss" in line] == [12]


# Quiet


def test_progress_false_prints_nothing(capfd, tmp_path):
    train(eval_data=TEXT[:100], eval_every=3, output_dir=tmp_path / "run", save_every=2)
    assert capfd.readouterr() == ("", "")
