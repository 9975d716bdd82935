import io
import sys

import numpy as np
import pytest

import loopos
from loopos.run.callbacks import HOOKS, Callback, Hooks, ProgressBar

CONFIG = loopos.ModelConfig(vocab_size=32, context_length=8, n_layer=1, n_head=2, d_model=8)
IDS = np.arange(300) % 32


class Journal(Callback):
    """Writes down every call."""

    def __init__(self):
        self.calls = []


for hook in HOOKS:
    setattr(Journal, hook, lambda self, info, hook=hook: self.calls.append((hook, info)))


def train(**kwargs):
    return loopos.train(CONFIG, IDS, **({"max_steps": 4, "batch_size": 2, "progress": False} | kwargs))


def test_every_hook_is_called_in_its_place(tmp_path):
    journal = Journal()
    result = train(callbacks=[journal], eval_data=IDS[:50], eval_every=2, save_every=3, output_dir=tmp_path / "run")
    assert [(hook[3:], info["step"]) for hook, info in journal.calls] == [
        ("train_begin", 0),
        *[("step_end", 1), ("log", 1)],
        *[("step_end", 2), ("evaluate", 2), ("log", 2)],
        *[("step_end", 3), ("save", 3)],
        *[("step_end", 4), ("evaluate", 4), ("log", 4), ("save", 4)],
        ("train_end", 4),
    ]
    assert all(info["model"] is result.model for _, info in journal.calls)
    infos = dict(journal.calls)
    assert infos["on_train_begin"]["max_steps"] == 4
    assert infos["on_save"]["path"].name == "step-00000004"
    assert infos["on_train_end"]["history"] == result.history
    assert infos["on_train_end"]["stopped"] is None
    logged = [{key: info[key] for key in info if key != "model"} for hook, info in journal.calls if hook == "on_log"]
    assert logged == result.history
    assert infos["on_step_end"].keys() >= result.history[0].keys()


def test_a_callback_may_have_a_single_hook_and_cannot_change_what_others_see():
    class Only:
        def on_step_end(self, info):
            info["loss"] = info["step"] = None

    journal = Journal()
    result = train(callbacks=[Only(), journal], log_every=1)
    assert [info["step"] for hook, info in journal.calls if hook == "on_step_end"] == [1, 2, 3, 4]
    assert [line["step"] for line in result.history] == [1, 2, 3, 4]
    assert all(isinstance(line["loss"], float) for line in result.history)


def test_the_end_is_called_after_an_exception_too():
    journal = Journal()

    class Fails:
        def on_step_end(self, info):
            raise LookupError("mine")

    with pytest.raises(LookupError, match="mine"):
        train(callbacks=[Fails(), journal])
    assert [hook for hook, _ in journal.calls] == ["on_train_begin", "on_train_end"]
    assert journal.calls[-1][1]["stopped"] == "error"


def test_all_are_asked_before_the_run_stops():
    asked = []

    class Ask:
        def __init__(self, answer):
            self.answer = answer

        def on_step_end(self, info):
            asked.append(self.answer)
            return self.answer

    assert train(callbacks=[Ask(1), Ask(None), Ask(0)]).step == 1
    assert asked == [1, None, 0]


@pytest.mark.parametrize("bad", [[object()], [Callback], ["on_step_end"], [None]])
def test_what_is_no_callback_is_refused(bad):
    with pytest.raises(TypeError, match="at least one of on_train_begin"):
        Hooks(bad)
    with pytest.raises(TypeError, match="a sequence of objects"):
        Hooks(3)


def test_the_bar_shows_the_numbers_of_the_run(monkeypatch):
    stderr = io.StringIO()
    monkeypatch.setattr(sys, "stderr", stderr)
    train(progress=True, eval_data=IDS[:50], learning_rate=1e-3, lr_schedule="constant")
    last = stderr.getvalue().split("\r")[-1]
    assert "4/4" in last
    for part in ("loss=", "grad_norm=", "lr=1.00e-03", "tok/s=", "eval_loss="):
        assert part in last
    assert "refused" not in last


def test_the_bar_tells_of_refused_updates_and_survives_an_end_without_a_beginning(monkeypatch):
    stderr = io.StringIO()
    monkeypatch.setattr(sys, "stderr", stderr)
    bar = ProgressBar()
    bar.on_train_end({"step": 0})
    bar.on_train_begin({"step": 3, "max_steps": 9})
    numbers = {"loss": float("nan"), "grad_norm": float("nan"), "learning_rate": 0.1, "tokens_per_second": 1234.5}
    bar.on_step_end({"step": 4, "nonfinite": 2} | numbers)
    bar.on_train_end({"step": 4})
    last = stderr.getvalue().split("\r")[-1]
    assert "4/9" in last
    assert "loss=nan" in last
    assert "refused=2" in last
