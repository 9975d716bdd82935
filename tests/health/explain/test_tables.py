"""Rows under a header that names a loss."""

from __future__ import annotations

import pytest

from loopos.health.explain.tables import Table


def rows(*lines):
    table = Table()
    found = []
    for line in lines:
        row = table.row(line) if table.begun else None
        if row is None:
            table.header(line)
        else:
            found.append(row[0] | {name.label: value for name, value in row[1].items()})
    return found


@pytest.mark.parametrize(
    ("lines", "expected"),
    [
        (("epoch,train_loss,val_loss", "1,2.5,2.75"), {"epoch": 1, "train loss": 2.5, "val loss": 2.75}),
        (('"step","train/loss"', '"1,024","2.5"'), {"step": 1024, "train loss": 2.5}),
        (("Step\tTraining Loss\tValidation Loss", "500\tNo log\t2.75"), {"step": 500, "validation loss": 2.75}),
        (("step;loss", "1.024;2,300"), {"step": 1.024, "loss": 2.3}),
        (("step\tloss", "1,024\t2,300"), {"step": 1024, "loss": 2.3}),
        (("step\tloss", "1,024\t2.300"), {"step": 1024, "loss": 2.3}),
        (("| step | loss |", "|---|---|", "| 1 | 2.5 |"), {"step": 1, "loss": 2.5}),
        (
            ("step   loss    lr   grad_norm", "   1   2.5   0.001   0.91"),
            {"step": 1, "loss": 2.5, "learning_rate": 0.001, "grad_norm": 0.91},
        ),
        (("    step  loss", "0  10  2.5"), {"step": 10, "loss": 2.5}),
        (("  Epoch  GPU_mem  box_loss  Size", " 1/3  2.65G  2.5  640: 100%|##| 6/6"), {"epoch": 1, "box loss": 2.5}),
        (("┏━━━━┳━━━━━┓", "┃ step ┃ loss ┃", "│ 1 │ 2.5 │"), {"step": 1, "loss": 2.5}),
        (("+---+---+", "| step | loss |", "+===+===+", "| 1 | 2.5 |"), {"step": 1, "loss": 2.5}),
        (("# step loss lr", "1 2.5 0.1"), {"step": 1, "loss": 2.5, "learning_rate": 0.1}),
        (("Iter  Time(s)  Train loss", "1  12.1s  2.5"), {"step": 1, "train loss": 2.5}),
        (
            ('"Step","run-1 - train/loss","run-1 - train/loss__MIN"', '"1","2.5","2.5"'),
            {"step": 1, "run 1 train loss": 2.5},
        ),
        (("step,loss", "1,nan"), {"step": 1, "loss": float("nan")}),
        (("step,loss,eval_loss", "1,,2.5"), {"step": 1, "eval loss": 2.5}),
    ],
)
def test_tables(lines, expected):
    assert rows(*lines) == [pytest.approx(expected, nan_ok=True)]


def test_other_lines_between_the_rows_are_no_rows():
    assert len(rows("step  loss  lr", "1  2.5  0.1", "saved  3  files", "all  1  2", "2  2.4  0.1")) == 2


@pytest.mark.parametrize(
    "line",
    ["the loss is going down", "a, b, c", "step, time", "1,2,3", "loss, as we know, is a number; it falls, mostly"],
)
def test_what_is_no_header(line):
    table = Table()
    table.header(line)
    assert not table.begun or table.row("it is 3 now, 4") is None


def test_a_later_header_begins_another_table():
    assert [len(row) for row in rows("step,loss", "1,2.5", "epoch,loss,eval_loss", "1,2.5,2.75")] == [2, 3]
