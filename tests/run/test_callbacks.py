import io
import sys
import time

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
    ((ids, targets),) = infos["on_step_end"]["batches"]
    assert (ids[:, 1:] == targets[:, :-1]).all()


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


class Terminal(io.StringIO):
    def isatty(self):
        return True


STREAMS = pytest.mark.parametrize("stream", [Terminal, io.StringIO])


def latest(stderr):
    """What a reader sees last."""
    return stderr.getvalue().rstrip("\n").split("\r")[-1].split("\n")[-1]


@STREAMS
def test_the_bar_shows_the_numbers_of_the_run(stream, monkeypatch):
    stderr = stream()
    monkeypatch.setattr(sys, "stderr", stderr)
    train(progress=True, eval_data=IDS[:50], learning_rate=1e-3, lr_schedule="constant")
    assert "4/4" in latest(stderr)
    for part in ("loss=", "grad_norm=", "lr=1.00e-03", "tok/s=", "eval_loss="):
        assert part in latest(stderr)
    assert "refused" not in latest(stderr)
    assert stderr.getvalue().count("evaluation: 49 tokens, ") == 1


@STREAMS
def test_the_bar_tells_of_refused_updates_and_survives_an_end_without_a_beginning(stream, monkeypatch):
    stderr = stream()
    monkeypatch.setattr(sys, "stderr", stderr)
    bar = ProgressBar()
    bar.on_train_end({"step": 0})
    bar.on_train_begin({"step": 3, "max_steps": 9})
    numbers = {"loss": float("nan"), "grad_norm": float("nan"), "learning_rate": 0.1, "tokens_per_second": 1234.5}
    bar.on_step_end({"step": 4, "nonfinite": 2} | numbers)
    bar.on_train_end({"step": 4})
    for part in ("4/9", "loss=nan", "refused=2"):
        assert part in latest(stderr)


def test_without_a_terminal_there_is_a_line_every_few_seconds(monkeypatch):
    stderr, clock = io.StringIO(), [100.0]
    monkeypatch.setattr(sys, "stderr", stderr)
    monkeypatch.setattr(time, "monotonic", lambda: clock[0])
    bar, numbers = ProgressBar(), {"loss": 2.0, "grad_norm": 1.0, "learning_rate": 0.1, "tokens_per_second": 9.0}
    bar.on_train_begin({"step": 0, "max_steps": 2000})
    for step in range(1, 2001):
        clock[0] += 0.05
        bar.on_step_end({"step": step, "nonfinite": 0} | numbers)
        if step % 100 == 0:
            bar.on_evaluate({"eval_loss": 2.0, "eval_tokens": 7, "eval_share": 0.25, "eval_seconds": 0.5})
    bar.on_alarm({"step": 2000, "sentence": "an alarm"})
    bar.on_train_end({"step": 2000})
    lines = stderr.getvalue().splitlines()
    assert "\r" not in stderr.getvalue()
    assert lines[0].startswith("train: 1/2000 [00:00<")
    assert 20 <= len(lines) <= 25  # 100 seconds
    assert "evaluation: 7 tokens, 0.25 of eval_data, 0.5 s each" in lines
    assert lines[-2:-1] == ["step 2000: an alarm"]
    assert lines[-1].startswith("train: 2000/2000 [01:40<00:00, 20.00step/s, loss=2.0000")
