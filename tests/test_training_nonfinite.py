"""What train does when a number is not finite."""

import json
import math

import numpy as np
import pytest
from spoiling import Spoil

import loopos

CONFIG = loopos.ModelConfig(vocab_size=32, context_length=8, n_layer=2, n_head=2, d_model=8, dropout=0.1)
IDS = np.random.default_rng(0).integers(0, 32, 400)
NAME = next(n for n in loopos.Model(CONFIG).parameters() if any(part == "1" for part in n.split(".")))


def bits(model):
    return b"".join(view.tobytes() for view in model.parameters().values())


class Poison:
    """Spoils one weight after each of ``steps`` and heals it when its update has been refused."""

    def __init__(self, *steps, value=math.nan):
        self.steps, self.value, self.kept = steps, value, None

    def on_step_end(self, info):
        flat = info["model"].parameters()[NAME].reshape(-1)
        if self.kept is not None and math.isnan(flat[0]):
            flat[0] = self.kept
        self.kept = None
        if info["step"] in self.steps:
            self.kept = float(flat[0])
            flat[0] = self.value


def train(model=None, **kwargs):
    settings = {"max_steps": 12, "batch_size": 4, "log_every": 1, "progress": False, "learning_rate": 1e-2}
    return loopos.train(loopos.Model(CONFIG) if model is None else model, IDS, **(settings | kwargs))


def test_halt_names_the_weight_and_changes_nothing(tmp_path, stop_after):
    model = loopos.Model(CONFIG)
    with pytest.raises(loopos.NonFiniteError) as caught:
        train(model, callbacks=[Poison(4)], output_dir=tmp_path / "run", save_every=1)
    birth = caught.value.birth
    assert (birth.step, birth.phase, birth.layer, birth.op, birth.tensor) == (5, "forward", 1, "parameter", NAME)
    assert math.isnan(birth.value)
    assert birth.index == (0,) * model.parameters()[NAME].ndim
    reference = train(max_steps=12, callbacks=[stop_after(4)]).model
    spoilt, sound = model.parameters(), reference.parameters()
    differing = [name for name in sound if not np.array_equal(spoilt[name], sound[name])]
    assert differing == [NAME]
    assert np.isnan(spoilt[NAME]).sum() == 1
    assert sorted(p.name for p in (tmp_path / "run").glob("step-*"))[-1] == "step-00000003"  # never with a NaN in it


def test_halt_keeps_what_was_learned_before(tmp_path):
    with pytest.raises(loopos.NonFiniteError) as caught:
        train(
            learning_rate=1e38, optimizer="sgd", lr_schedule="constant", max_grad_norm=None, output_dir=tmp_path / "run"
        )
    assert caught.value.birth.step >= 1
    saved = sorted((tmp_path / "run").glob("step-*"))
    assert [int(path.name[5:]) for path in saved] == [caught.value.birth.step - 1]


def test_skip_is_a_true_no_op_whose_step_is_spent(tmp_path):
    seen = []

    class Watch:
        def on_step_end(self, info):
            seen.append(info["step"])

    result = train(on_nonfinite="skip", callbacks=[Poison(4), Watch()], output_dir=tmp_path / "run")
    assert seen == list(range(1, 13))
    refused = result.history[4]
    assert refused["step"] == 5
    assert math.isnan(refused["loss"])
    assert [line["nonfinite"] for line in result.history] == [0] * 4 + [1] * 8
    lines = [json.loads(line) for line in (tmp_path / "run/metrics.jsonl").read_text().splitlines()]
    assert lines[4]["loss"] is None
    assert [line["step"] for line in lines] == seen

    class Skipping:  # the same run without an update 5: batches and learning rates of the others stay where they were
        def batch(self, step, micro):
            ids, targets = stream.batch(step, micro)
            return ids, np.full_like(targets, -100) if step == 4 else targets

    from loopos.data.batches import TokenStream

    stream = TokenStream(IDS, seq_len=8, batch_size=4, vocab_size=32)
    model = loopos.Model(CONFIG)
    loopos.train(model, Skipping(), max_steps=12, progress=False, learning_rate=1e-2)
    assert bits(result.model) == bits(model)


def test_a_skipped_step_has_a_line_whatever_log_every_is():
    result = train(on_nonfinite="skip", callbacks=[Poison(4)], log_every=100)
    assert [line["step"] for line in result.history] == [1, 5, 12]


def test_skip_raises_at_the_third_in_a_row():
    class Stay:
        def on_step_end(self, info):
            if info["step"] == 2:
                info["model"].parameters()[NAME].reshape(-1)[0] = math.inf

    with pytest.raises(loopos.NonFiniteError, match="3 updates in a row") as caught:
        train(on_nonfinite="skip", callbacks=[Stay()])
    assert caught.value.birth.step == 5


def test_skip_raises_when_the_budget_is_spent():
    assert train(on_nonfinite="skip", callbacks=[Poison(1, 3, 5)]).history[-1]["nonfinite"] == 3
    with pytest.raises(loopos.NonFiniteError, match="more than 3") as caught:
        train(on_nonfinite="skip", callbacks=[Poison(1, 3, 5, 7)])
    assert caught.value.birth.step == 8


def test_rewind_returns_to_the_snapshot_and_goes_on():
    states = {}

    class Watch:
        def on_step_end(self, info):
            states[info["step"]] = bits(info["model"])

    result = train(on_nonfinite="rewind", max_steps=20, callbacks=[Watch(), Spoil(NAME, 14)])
    assert states[15] == states[10]
    assert math.isnan(result.history[14]["loss"])
    assert result.history[-1]["nonfinite"] == 1
    assert math.isfinite(result.history[-1]["loss"])
    assert all(np.isfinite(view).all() for view in result.model.parameters().values())


@pytest.mark.parametrize("policy", ["skip", "rewind"])
def test_resume_after_a_refusal_equals_the_uninterrupted_run(policy, tmp_path, stop_after):
    settings = {"on_nonfinite": policy, "max_steps": 20}
    callback = {"skip": lambda: Poison(14), "rewind": lambda: Spoil(NAME, 14)}[policy]
    whole = train(callbacks=[callback()], **settings)
    train(callbacks=[stop_after(13)], output_dir=tmp_path / "run", **settings)
    rest = train(callbacks=[callback()], output_dir=tmp_path / "run", resume="auto", **settings)
    assert bits(rest.model) == bits(whole.model)
    assert rest.history[-1]["nonfinite"] == 1


def test_an_update_that_would_overflow_a_weight_is_refused():
    model = loopos.Model(CONFIG)
    before = bits(model)
    with pytest.raises(loopos.NonFiniteError) as caught:
        train(model, optimizer="adamw", learning_rate=1e300, lr_schedule="constant", weight_decay=0.0)
    assert (caught.value.birth.step, caught.value.birth.phase, caught.value.birth.op) == (1, "update", "adamw")
    assert caught.value.birth.tensor in model.parameters()
    assert bits(model) == before
