"""Logs like those of public complaints that were read wrongly once, each with what is right."""

from __future__ import annotations

import math

import pytest

from loopos.health.explain.explain import explain

NAN = math.nan
LOSSES = [f"{3 - 0.1 * i if i < 9 else NAN:.2f}" for i in range(14)]
READ = "14 with a loss, 5 of them not finite"


def bar(epoch, value):
    shown = f"train_loss_step={value}, val_loss={value}, train_loss_epoch={value}"
    return f"\rEpoch {epoch}: 100%|█| 50/50 [00:10<00:00, 41it/s, v_num=3, {shown}]"


def losses(text):
    return explain(text).facts[2]


def test_bars_of_lightning():
    found = explain("".join(bar(i, f"{2.3 - 0.1 * i:.3f}") for i in range(20)))
    assert (found.facts[2], found.causes) == ("20 with a loss, 0 of them not finite", ("learning",))
    found = explain("".join(bar(i, f"{2.3 - 0.1 * i if i < 9 else NAN:.3f}") for i in range(14)))
    assert found.causes[:2] == ("data", "exp-overflow")


@pytest.mark.parametrize(
    ("line", "count"),
    [
        ("step {i} loss={loss:.3f}, nll_loss={part:.3f}\n", 20),
        ("train/CrossEntropyLoss={loss:.3f}\n", 20),
        ("trn_loss: {loss:.3f} mse {part:.3f}\n", 20),
        ("iteration {i} | lm loss: {loss:.3E} | skipped iterations: 0 | number of nan iterations: 0 |\n", 20),
    ],
)
def test_one_loss_of_a_line(line, count):
    found = explain("".join(line.format(i=i, loss=5 - 0.1 * i, part=4 - 0.1 * i) for i in range(count)))
    assert found.facts[1:] == (f"{count} entries with numbers", f"{count} with a loss, 0 of them not finite")
    assert found.causes == ("learning",)


def test_an_epoch_whose_mean_is_nan():
    lines = [f"Epoch {e}: train_perplexity=nan, train_epoch_loss={1.8 if e < 6 else NAN}\n" for e in range(9)]
    assert explain("".join(lines)).causes[:2] == ("data", "exp-overflow")
    steps = "".join(f"step {i} completed (loss: {0.0 if i > 5 else 2.0})\n" for i in range(12))
    found = explain(steps + "Epoch 6: train_epoch_loss=nan, eval_epoch_loss=tensor(nan)\n")
    assert found.facts[2] == "13 with a loss, 1 of them not finite"
    assert "learning" not in found.causes


def test_a_norm_of_another_name_in_quotes():
    line = '{{"epoch": {i}, "train_loss": "{loss:.2f}", "train_gnorm": "{norm}"}}\n'
    text = "".join(line.format(i=i, loss=9 - 0.4 * i, norm=1.4 if i < 6 else "inf") for i in range(9))
    assert explain(text).causes == ("norm-overflow", "learning")


@pytest.mark.parametrize(
    "source",
    [
        "".join(f"\x1b[36m(pid=11)\x1b[0m {{'loss': \x1b[1;36m{v}\x1b[0m, 'lr': 1e-3}}\n" for v in LOSSES),
        ("\ufeffloss,step\n" + "".join(f"{v},{i}\n" for i, v in enumerate(LOSSES))).encode(),
        "".join(f"step {i} loss {v}\n" for i, v in enumerate(LOSSES)).encode("utf-32"),
        "".join(f"第{i}轮 loss：{v}，学习率：0.001\n" for i, v in enumerate(LOSSES)),
        "step   loss\n" + "".join(f"{i:4d}   {v}\n" for i, v in enumerate(LOSSES)),
    ],
    ids=["colours", "mark", "utf-32", "full width", "blanks"],
)
def test_decorated_and_encoded(source):
    assert losses(source) == READ


def test_decimal_commas_of_a_spreadsheet():
    text = "step;loss\n" + "".join(f"{i};{3 - 0.1 * i:.3f}\n".replace(".", ",") for i in range(15))
    assert "now 1.7 " in explain(text).findings[0].says


def test_a_table_parted_by_blanks():
    rows = "".join(f"{i:4d}   {4 - 0.1 * i:.3f}   0.001   0.91\n" for i in range(20))
    found = explain("step   loss    lr      grad_norm\n" + rows)
    assert (found.facts[2], found.causes) == ("20 with a loss, 0 of them not finite", ("learning",))


def test_a_restart_that_did_not_load_the_weights():
    def part(top, fall):
        return "".join(f"iter {i}: loss {top - fall * i:.4f}, time 10.00ms\n" for i in range(50))

    found = explain(part(4.0, 0.02) + part(10.8, 0.1))
    assert found.causes == ("restart", "learning")
    assert "the log holds 2 runs: the step goes back (from 49 to 0)" in found.findings[0].says


def test_counters_of_an_interval():
    line = "iteration {i} | lm loss: {loss:.3E} | number of skipped iterations: 0 | number of nan iterations: {nan} |\n"
    found = explain("".join(line.format(i=i * 10, loss=9 - 0.1 * i, nan=i // 9) for i in range(12)))
    assert found.facts[1] == "12 entries with numbers"
    assert found.causes == ("not-finite-reported", "learning")
    assert "3 iterations whose loss was NaN" in found.findings[0].says


@pytest.mark.timeout(120)
@pytest.mark.unsanitized("reads a long log: Python alone")
def test_a_hundred_thousand_lines_have_few_shapes():
    """What makes long logs fast: their lines are understood once. (A second or two; the limit is for what explodes.)"""
    from loopos.health.explain.lines import lines_of
    from loopos.health.explain.logs import Log
    from loopos.health.explain.reading import Reading

    seen = []
    reading = Reading(Log(), rules=seen.append)
    text = "".join(
        f"2024-01-01 10:{i // 60 % 60:02}:{i % 60:02},{i % 1000:03} step {i} loss {3 - i / 1e5:.4f}\n"
        for i in range(100_000)
    )
    for number, line in lines_of(text, []):
        reading.line(number, line)
    assert len(seen) == 1
    explain(text)
