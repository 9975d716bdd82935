"""train(label_smoothing=): the training loss and its gradient have it, nothing else does."""

import json

import numpy as np
import pytest

import loopos
from loopos import ops
from loopos.cli import main
from loopos.run.settings import SettingError

CONFIG = loopos.ModelConfig(vocab_size=19, context_length=8, n_layer=1, n_head=2, d_model=8)
IDS = np.random.default_rng(0).integers(0, 19, 400)


class One:
    """One batch, some of whose targets are masked."""

    def __init__(self):
        self.ids, self.targets = np.random.default_rng(1).integers(0, 19, (2, 3, 8))
        self.targets[0, 2:5] = -100

    def batch(self, step, micro):
        return self.ids, self.targets


def smoothed(model, data, amount):
    logits = model.forward(data.ids).reshape(-1, 19)
    return float(ops.cross_entropy(logits, data.targets.reshape(-1), label_smoothing=amount)[0])


def train(model=CONFIG, data=IDS, **settings):
    return loopos.train(model, data, **{"max_steps": 3, "batch_size": 2, "progress": False} | settings)


@pytest.mark.parametrize("amount", [0.0, 0.1, 0.7, 1.0])
def test_the_loss_and_its_gradient(amount):
    """Against loopos.ops and central differences in float64."""
    data, rate = One(), 1.0
    model = loopos.Model(CONFIG, dtype="float64")
    for view in model.parameters().values():
        view += 0.1 * np.random.default_rng(view.size).standard_normal(view.shape)
    before = model.state_dict()
    expected = smoothed(model, data, amount)
    slopes = {}
    for name, view in model.parameters().items():
        flat, at, h = view.reshape(-1), view.size // 3, 1e-5
        kept = flat[at]
        values = []
        for change in (h, -h):
            flat[at] = kept + change
            values.append(smoothed(model, data, amount))
        flat[at] = kept
        slopes[name] = (values[0] - values[1]) / (2 * h)
    step = {"optimizer": "sgd", "learning_rate": rate, "weight_decay": 0.0, "max_grad_norm": None}
    result = train(model, data, max_steps=1, lr_schedule="constant", label_smoothing=amount, **step)
    assert result.history[0]["loss"] == pytest.approx(expected, rel=1e-12)
    assert any(abs(slope) > 1e-3 for slope in slopes.values())
    for name, slope in slopes.items():
        moved = (before[name] - model.state_dict()[name]).reshape(-1)[before[name].size // 3]
        assert moved == pytest.approx(rate * slope, rel=1e-6, abs=1e-9), name


def test_a_vocabulary_whose_logits_are_not_held_at_once():
    """Beyond 2**24 logits they are computed in tiles: the same loss."""
    config = loopos.ModelConfig(vocab_size=150_000, context_length=16, n_layer=1, n_head=1, d_model=4)
    ids, targets = np.random.default_rng(2).integers(0, 150_000, (2, 10, 16))

    class Data:
        def batch(self, step, micro):
            return ids, targets

    model = loopos.Model(config)
    logits = model.forward(ids).reshape(-1, 150_000)
    expected = ops.cross_entropy(logits, targets.reshape(-1), label_smoothing=0.3)[0]
    result = train(model, Data(), max_steps=1, learning_rate=0.0, label_smoothing=0.3)
    assert result.history[0]["loss"] == pytest.approx(expected, rel=1e-6)


def test_micro_batches_make_the_batch():
    class Halves(One):
        def batch(self, step, micro):
            part = (slice(0, 1), slice(1, 3))[micro]
            return self.ids[part], self.targets[part]

    whole, parts = (
        train(loopos.Model(CONFIG, dtype="float64"), data, grad_accum=count, label_smoothing=0.2)
        for data, count in ((One(), 1), (Halves(), 2))
    )
    assert parts.history[0]["loss"] == pytest.approx(whole.history[0]["loss"], rel=1e-12)
    for name, view in whole.model.parameters().items():
        assert np.abs(view - parts.model.parameters()[name]).max() < 1e-12


def test_what_is_held_out_is_scored_without_it():
    results = [
        train(eval_data=IDS[:100], learning_rate=0.0, label_smoothing=amount, max_steps=1) for amount in (0.0, 0.5)
    ]
    assert results[0].history[0]["eval_loss"] == results[1].history[0]["eval_loss"]
    assert results[0].history[0]["loss"] != results[1].history[0]["loss"]


def test_without_it_no_bit_is_another():
    one, two = (train(**more).model.state_dict() for more in ({}, {"label_smoothing": 0.0}))
    assert all(np.array_equal(one[name], two[name]) for name in one)


def test_a_verdict_does_not_compare_it_with_the_entropies_of_tokens():
    assert train(label_smoothing=0.1).sample is None
    assert train().sample is not None


def test_a_step_that_is_replayed_has_it(tmp_path):
    class Spoils:
        def on_step_end(self, info):
            if info["step"] == 2:
                info["model"].parameters()["final_norm.weight"][0] = np.nan

    with pytest.raises(loopos.NonFiniteError) as caught:
        train(label_smoothing=0.3, output_dir=tmp_path, callbacks=[Spoils()])
    (bundle,) = (tmp_path / "bundles").iterdir()
    assert loopos.replay(bundle), caught.value


def test_a_resume_tells_of_another_one(tmp_path):
    train(label_smoothing=0.3, output_dir=tmp_path)
    with pytest.warns(UserWarning, match=r"label_smoothing is 0\.1 here, 0\.3 in"):
        train(label_smoothing=0.1, output_dir=tmp_path, max_steps=4, resume="auto")


@pytest.mark.parametrize(
    ("value", "error"), [(-0.1, ValueError), (1.1, ValueError), ("0.1", SettingError), (True, TypeError)]
)
def test_values_that_cannot_be(value, error):
    with pytest.raises(error, match="train: label_smoothing must be a finite number at least 0 and at most 1, got"):
        train(label_smoothing=value)


def test_the_doctor_and_the_command_line_take_it(tmp_path, capsys):
    assert loopos.doctor(CONFIG, IDS, label_smoothing=0.2, learning_rate=1e-3, quick=True).ok
    (tmp_path / "text.txt").write_text("to be or not to be, that is the question.\n" * 40)
    small = ["--context-length=16", "--n-layer=1", "--n-head=2", "--d-model=16", "--max-steps=2", "--sample=0"]
    run = tmp_path / "run"
    flags = ["--label-smoothing", "0.25", "--output-dir", str(run), "--no-progress"]
    assert main(["train", str(tmp_path / "text.txt"), *small, *flags]) == 0
    state = json.loads((run / "step-00000002" / "state.json").read_text())["state"]
    assert state["settings"]["label_smoothing"] == 0.25
