"""What is read of the logs of many trainers, in any decoration and encoding: the same entries, and a healthy run."""

from __future__ import annotations

import json
import math

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from loopos.health.explain.explain import explain
from loopos.health.explain.lines import lines_of
from loopos.health.explain.logs import Log, is_path
from loopos.health.explain.reading import Reading

from .trainer_logs import LOGS, log_of

PLAIN = "".join(f"step {i} loss: {3 - 0.1 * i:.2f}, lr: 0.001\n" for i in range(20))


def read(source):
    log = Log()
    reading = Reading(log)
    for number, line in lines_of(source, log.notes):
        reading.line(number, line)
    log.settle()
    return log


def series(source, name="loss"):
    return [record.values[name] for record in read(source).records if name in record.values]


@pytest.mark.parametrize("name", LOGS)
def test_a_healthy_log_of_any_trainer(name):
    text = log_of(name)
    losses, held_out = series(text), series(text, "eval_loss")
    assert len(losses) == 40
    assert losses[0] == pytest.approx(4, abs=0.2)
    assert losses[-1] == pytest.approx(1.67, abs=0.2)
    line, evaluation, *_ = (*LOGS[name], "")
    if name == "tut2":  # "Test Error:" is a line of its own, the loss below it has no mark
        assert held_out == []
    elif "v:" in evaluation or "bpb" in evaluation or "perplexity" in evaluation:
        assert len(held_out) == 10
    elif "val" in line and "{v" in line and "nll" not in line:
        assert len(held_out) == 40
        assert held_out[0] == pytest.approx(4.2, abs=0.25)
    found = explain(text)
    assert found.causes == ("learning",)
    assert found.doubts == ()


@pytest.mark.parametrize("name", LOGS)
def test_a_loss_that_becomes_nan_in_the_log_of_any_trainer(name):
    """In the training line of the last ten entries."""
    line, _, head = (*LOGS[name], "", "")[:3]
    values = {"e": 1, "v": 2.5, "vc": "2,500"}
    lines = [line.format(i=i, l=2.5, lc="2,500", p=9.0, **values) for i in range(30)]
    lines += [line.format(i=i, l=math.nan, lc="nan", p=math.nan, **values) for i in range(30, 40)]
    found = explain("\n".join([head, *lines]))
    assert found.facts[-1] == "40 with a loss, 10 of them not finite"
    assert "data" in found.causes or "first-forward" in found.causes


@pytest.mark.parametrize(
    "source",
    [
        PLAIN.replace("\n", "\r\n"),
        PLAIN.replace("\n", "\n\n \n"),
        "\ufeff" + PLAIN,
        PLAIN.encode("utf-16"),
        PLAIN.encode("utf-16-le"),
        PLAIN.encode("utf-32"),
        PLAIN.replace("loss: ", "loss: \x1b[1;31m").replace(",", "\x1b[0m,"),
        PLAIN.replace(":", "：").replace(",", "，"),
        PLAIN.replace(", lr", "; lr").replace(".", ","),
        "".join("\r" + line for line in PLAIN.splitlines()),
        PLAIN.replace(" loss: ", " **loss**: `").replace(",", "`,"),
        PLAIN.replace("loss: ", "loss: tensor(").replace(", lr", ", device='cuda:0'), lr"),
        "é".join(PLAIN.splitlines(keepends=True)).encode("cp1252"),
        "".join(PLAIN.replace(":", "：").replace(",", "，").splitlines(keepends=True)).encode("gbk"),
        PLAIN.replace(":", "：").encode("cp932"),
        PLAIN.replace(": ", "&#58; "),
        PLAIN.replace(" ", "\u00a0"),
        "".join(json.dumps({"log": line, "stream": "stderr"}) + "\n" for line in PLAIN.splitlines(keepends=True)),
    ],
    ids=str,
)
def test_decoration_and_encoding_change_nothing(source):
    assert series(source) == series(PLAIN)
    assert series(source, "learning_rate") == series(PLAIN, "learning_rate")


# One quantity of a log is one column of it


def test_a_loss_that_is_said_of_a_step():
    text = "".join(f"Minibatch loss at step {i}: {3 - i / 10:.1f}\nMinibatch accuracy: 8.6%\n" for i in range(9))
    assert [(r.values["step"], r.values["loss"]) for r in read(text).records][:2] == [(0, 3.0), (1, 2.9)]
    assert series("validation loss after epoch 3: 2.5\n", "eval_loss") == [2.5]


def test_one_column_is_the_loss_of_a_log():
    text = "".join(f"step {i} loss={3 - i / 20:.3f}, nll_loss={2 - i / 20:.3f}\n" for i in range(20))
    assert series(text) == pytest.approx([3 - i / 20 for i in range(20)])
    parts = "".join(f"step {i} cls_loss: 0.3 kl_loss: 0.1 total_loss: {3 - i / 20:.3f}\n" for i in range(20))
    assert series(parts)[0] == 3
    assert series(parts.replace(" total_loss:", " other:")) == [0.3] * 20  # the first of several parts
    rare = "loss 9 said the manual\n" + "".join(f"train_loss_step={3 - i / 20:.3f}\n" for i in range(20))
    assert len(series(rare)) == 20


def test_the_column_may_change_where_another_program_begins():
    first = "".join(f"iter {i} | lm loss: {3 - i / 20:.3f}\n" for i in range(20))
    second = "".join(f"{{'loss': {2 - i / 20:.3f}, 'epoch': {i / 10}}}\n" for i in range(10))
    assert len(series(first + second)) == 30


def test_a_summary_at_the_end_is_no_part_of_the_curve():
    text = PLAIN + "{'train_runtime': 99.5, 'train_loss': 2.05, 'epoch': 3.0}\n"
    assert series(text) == series(PLAIN)


def test_a_loss_that_is_not_finite_counts_in_whatever_column():
    text = PLAIN + "Epoch 3: train_perplexity=nan, train_epoch_loss=tensor(nan), eval_epoch_loss=2.5\n"
    assert math.isnan(series(text)[-1])
    step = "".join(f"Epoch 1: loss_step=2.{i}, loss_epoch={'nan' if i > 5 else 2}\n" for i in range(9))
    assert all(map(math.isfinite, series(step)))
    assert math.isnan(read(step).records[-1].values["loss epoch"])


def test_perplexity_stands_for_the_loss_where_there_is_none():
    assert series("step 1 ppl: 20.0855\n") == pytest.approx([3])
    assert series("step 1 loss: 2.5 ppl: 20.0855\n") == [2.5]
    assert series("step 1 ppl: 0\n") == []


def test_a_held_out_loss_is_never_the_loss():
    text = "".join(f"epoch {i} val_loss: 2.5 test_loss: 2.75\n" for i in range(9))
    assert series(text) == []
    assert series(text, "eval_loss") == [2.5] * 9


def test_zero_is_a_number_and_null_is_none():
    assert series("{'loss': 0.0, 'step': 1}\n") == [0.0]
    assert series('{"loss": null, "eval_loss": null, "step": 1}\n', "eval_loss") == []


def test_a_decimal_comma_is_remembered():
    text = "loss: 2,31; lr: 0,001\nloss: 2,300; lr: 0,001\nstep 3 loss: 2,200\n"
    assert series(text) == [2.31, 2.3, 2.2]
    assert series("step 1 loss: 2,300\n") == [2300]


WORDS = [
    *("loss", "val_", "train ", "nan", "inf", ":", "=", " ", "|", ",", "\t", "1.5", "1,5", "\n", "\r", "\x1b[1m"),
    *("null", "step", "epoch", "grad_norm", "'", "-", "(", "tensor(", "轮", "：", "\x00", "\x01", "e-5", "[", "]"),
    *("norm", "10^", '"', "||", "{", "}"),
]
ENCODINGS = ["utf-8", "utf-16", "utf-32-be"]


@pytest.mark.timeout(300)
@pytest.mark.unsanitized("reads texts: Python alone")
@settings(deadline=None, max_examples=150)
@given(
    st.lists(st.sampled_from(WORDS) | st.text(max_size=4), max_size=60),
    st.sampled_from(ENCODINGS),
)
def test_no_text_raises(parts, encoding):
    text = "".join(parts)
    for source in (text, text.encode(encoding, "replace"), "loss,step\n" + text, text * 40):
        if isinstance(source, bytes) or not is_path(source):  # "/" is the name of a folder
            str(explain(source))


@pytest.mark.timeout(300)
@settings(deadline=None, max_examples=25)
@given(st.lists(st.sampled_from(WORDS), min_size=1, max_size=4))
def test_no_text_takes_more_than_its_length(parts):
    """A megabyte of anything repeated; a pattern of square time would take hours for it."""
    unit = "".join(parts)
    explain(unit * (1 + (1 << 17) // len(unit)))
