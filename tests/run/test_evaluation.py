"""loopos/run/evaluation.py: the budget of an evaluation, the best of a run, and patience; the same over a resume."""

import math

import numpy as np
import pytest

import loopos
from loopos.run.checkpoint import load_checkpoint
from loopos.run.evaluation import Evaluation

CONFIG = loopos.ModelConfig(vocab_size=16, context_length=8, n_layer=1, n_head=2, d_model=16)


def noise(count, seed):
    return np.random.default_rng(seed).integers(0, 16, count)


# Learned by heart: the held-out loss falls at first and rises then.
LEARNED = {"eval_data": noise(400, 2), "batch_size": 16, "learning_rate": 3e-3, "eval_every": 5, "max_steps": 60}


def train(model=CONFIG, data=None, **settings):
    settings = LEARNED | {"progress": False, "lr_schedule": "constant"} | settings
    return loopos.train(model, noise(200, 1) if data is None else data, **settings)


def evals(result):
    return {entry["step"]: entry["eval_loss"] for entry in result.history if "eval_loss" in entry}


# The budget


class Seen:
    """Writes down what evaluations told."""

    def __init__(self):
        self.told = []

    def on_evaluate(self, info):
        self.told.append(info)


@pytest.mark.parametrize(("tokens", "windows"), [(None, 50), (10_000, 50), (80, 10), (100, 12), (7, 1)])
def test_an_evaluation_scores_no_more_than_its_budget(tokens, windows):
    seen, held_out = Seen(), noise(400, 2)
    result = train(eval_tokens=tokens, max_steps=10, callbacks=[seen])
    assert [info["eval_tokens"] for info in seen.told] == [min(399, windows * 8)] * 2
    assert {info["eval_share"] for info in seen.told} == {windows / 50}
    assert all(info["eval_seconds"] > 0 for info in seen.told)
    starts = [i * 50 // windows * 8 for i in range(windows)]  # even distances, the first among them
    pieces = [held_out[start : start + 9] for start in starts]
    total = sum(result.model.loss(p[None, :-1], p[None, 1:]) * (len(p) - 1) for p in pieces)
    assert evals(result)[10] == pytest.approx(total / sum(len(p) - 1 for p in pieces), rel=1e-6)


def test_a_long_text_has_a_budget_unless_told_otherwise():
    held_out = noise(1_000_000, 4)
    seen = Seen()
    train(eval_data=held_out, max_steps=1, callbacks=[seen])
    assert seen.told[0]["eval_tokens"] == 131_072


class Batches:
    def __init__(self, count):
        self.count, self.asked = count, []

    def __len__(self):
        return self.count

    def batch(self, step, micro):
        self.asked.append(step)
        ids = np.full((2, 4), step % 16)
        return ids, ids


def test_a_dataset_has_the_same_budget():
    data = Batches(100)
    train(eval_data=data, max_steps=1, eval_tokens=80)
    assert data.asked == list(range(0, 100, 10))
    data = Batches(3)
    train(eval_data=data, max_steps=1)
    assert data.asked == [0, 1, 2]


@pytest.mark.parametrize("value", [0, -1, 2.5, True, "9"])
def test_a_budget_must_be_a_count(value):
    with pytest.raises(ValueError, match="eval_tokens must be an integer of at least 1"):
        train(eval_tokens=value)


def test_nothing_scored_is_no_loss():
    class Masked:
        def __len__(self):
            return 1

        def batch(self, step, micro):
            return np.ones((2, 8), int), np.full((2, 8), -100)

    with pytest.warns(UserWarning, match="every target of eval_data was -100, so no held-out loss is known") as seen:
        result = train(eval_data=Masked(), max_steps=1)
    assert len(seen) == 1
    assert math.isnan(result.history[-1]["eval_loss"])
    assert result.best is None
    assert result.findings == []


# The best, and patience


def test_the_best_is_told_and_kept(tmp_path):
    result = train(output_dir=tmp_path / "run", keep_best=True)
    losses = evals(result)
    step = min(losses, key=losses.__getitem__)
    assert step < 60  # it was learned by heart, as it should be here
    assert result.best == {"step": step, "eval_loss": losses[step]}
    best = load_checkpoint(tmp_path / "run" / "best")
    assert best.step == step
    at = train(max_steps=step).model.state_dict()  # a constant rate: the same updates
    assert all(np.array_equal(best.weights[name], at[name]) for name in at)
    last = train().model.state_dict()
    assert all(np.array_equal(result.model.state_dict()[name], last[name]) for name in last)  # no bit is changed
    assert sorted(path.name for path in (tmp_path / "run").glob("best*")) == ["best"]
    again = loopos.train(CONFIG, noise(200, 1), resume=tmp_path / "run" / "best", **LEARNED | {"progress": False})
    assert again.history[0]["step"] > step


def test_patience_ends_a_run(tmp_path):
    result, whole = train(patience=3, output_dir=tmp_path / "run"), train()
    step = result.best["step"]
    assert result.stopped == "patience"
    assert result.step == step + 15 < 60
    assert evals(result) == {at: loss for at, loss in evals(whole).items() if at <= result.step}
    again = train(patience=3, output_dir=tmp_path / "run", resume="auto")  # it stays ended
    assert (again.stopped, again.step, again.history, again.best) == ("patience", result.step, [], result.best)
    longer = train(patience=4, output_dir=tmp_path / "run", resume="auto")
    assert (longer.stopped, longer.step, longer.best) == ("patience", result.step + 5, result.best)
    assert train(patience=100).stopped is None


@pytest.mark.parametrize("stop", [7, 10, 31, 33])
def test_a_resumed_run_has_the_same_best_and_the_same_patience(stop, tmp_path, stop_after):
    settings = {"keep_best": True, "patience": 4}
    whole = train(output_dir=tmp_path / "whole", **settings)
    train(output_dir=tmp_path / "parts", callbacks=[stop_after(stop)], **settings)
    parts = train(output_dir=tmp_path / "parts", resume="auto", **settings)
    assert (parts.best, parts.stopped, parts.step) == (whole.best, whole.stopped, whole.step)
    one, two = (load_checkpoint(tmp_path / name / "best") for name in ("whole", "parts"))
    assert one.step == two.step == whole.best["step"]
    assert one.state["evaluation"] == two.state["evaluation"]
    assert all(np.array_equal(one.arrays[name], two.arrays[name]) for name in one.arrays)


def test_another_run_in_the_folder_does_not_keep_a_best_that_is_not_its_own(tmp_path):
    train(output_dir=tmp_path, keep_best=True)
    with pytest.warns(UserWarning, match="another run"):
        train(output_dir=tmp_path, max_steps=1, eval_data=None, eval_every=None)
    assert not (tmp_path / "best").exists()
    assert (tmp_path / "best.before").is_dir()


def test_a_best_that_was_being_replaced_when_the_process_was_killed_is_put_back(tmp_path):
    result = train(output_dir=tmp_path, keep_best=True)
    (tmp_path / "best").rename(tmp_path / "best.old.1.abcdef01")
    (tmp_path / "best.tmp.1.abcdef01").mkdir()
    train(output_dir=tmp_path, keep_best=True, resume="auto")
    assert sorted(path.name for path in tmp_path.glob("best*")) == ["best"]
    assert load_checkpoint(tmp_path / "best").step == result.best["step"]


def test_what_they_rest_on_must_be_given(tmp_path):
    for settings, said in (
        (
            {"keep_best": True, "eval_data": None, "eval_every": None},
            "keep_best goes by the held-out loss and needs eval",
        ),
        ({"keep_best": True}, "keep_best writes output_dir/best and needs output_dir"),
        ({"patience": 2, "eval_data": None, "eval_every": None}, "patience goes by the held-out loss"),
        ({"patience": 2, "eval_every": None}, "patience counts evaluations and needs eval_every"),
        ({"patience": 0}, "patience must be an integer of at least 1"),
        ({"keep_best": 1}, "keep_best must be True or False"),
    ):
        with pytest.raises(ValueError, match=said):
            train(**settings)


def test_what_is_not_finite_is_never_the_best():
    evaluation = Evaluation(None, 3)
    assert not evaluation
    assert [evaluation.judge(step, loss) for step, loss in enumerate([math.nan, 2.0, 2.0, math.inf, 1.5])] == [
        *[False, True, False],
        *[False, True],
    ]
    assert evaluation.best == {"step": 4, "eval_loss": 1.5}
    again = Evaluation(None, 1, evaluation.state())
    assert again.best == evaluation.best
    again.judge(5, math.nan)
    assert again.exhausted
    assert Evaluation(None, 1, {"best": 3, "worse": 1}).best is None
