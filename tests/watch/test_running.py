"""Buffers that become infinite while loss and gradients stay finite, and those that may be."""

from __future__ import annotations

import json
import math
import warnings

import pytest

import loopos

pytestmark = pytest.mark.reference
torch = pytest.importorskip("torch")

from loopos.watch.calls import Buffers  # noqa: E402
from loopos.watch.running import Running  # noqa: E402


class Net(torch.nn.Module):
    def __init__(self):
        super().__init__()
        self.net = torch.nn.Sequential(torch.nn.Linear(4, 8), torch.nn.BatchNorm1d(8), torch.nn.Linear(8, 1))
        self.register_buffer("average", torch.zeros(3))
        self.register_buffer("mask", torch.full((4, 4), -math.inf).triu(1))
        self.register_buffer("least", torch.tensor(math.inf))

    def forward(self, x):
        return self.net(x)


def program():
    torch.manual_seed(0)
    model = Net()
    optimizer = torch.optim.AdamW(model.parameters(), 1e-3)
    return model, optimizer, torch.randn(6, 4)


def test_a_running_variance_that_overflows_is_told_once(tmp_path):
    model, optimizer, x = program()
    large = torch.cat([x[:5] * 1e25, x[5:]])
    watch = loopos.watch(model, optimizer, output_dir=tmp_path)

    def step(number):
        watch.step(lambda: model(large if number == 4 else x).square().mean())

    for number in range(1, 10):
        step(number)
    with pytest.warns(RuntimeWarning, match="running_var") as told:
        step(10)
    for number in range(11, 25):  # where a warning is an error
        step(number)
    watch.close()
    assert len(told) == len(watch.findings) == 1
    (alarm,) = watch.findings
    assert (alarm.step, alarm.name, alarm.value) == (10, "buffer", math.inf)
    assert "net.1.running_var[0] = inf: 8 of 8 numbers" in str(alarm)
    assert not watch.births
    lines = [json.loads(line) for line in (tmp_path / "metrics.jsonl").read_text().splitlines()]
    assert [line["step"] for line in lines if "findings" in line] == [10]


@pytest.mark.parametrize("steps", [3, 10])
def test_an_average_of_ones_own_is_told_at_the_end(steps, tmp_path):
    model, optimizer, x = program()
    watch = loopos.watch(model, optimizer, output_dir=tmp_path)
    for _ in range(steps):
        watch.step(lambda: model(x).square().mean())
    model.average += torch.tensor([0.0, math.nan, 1.0])
    with pytest.warns(RuntimeWarning, match=r"average\[1\] = nan: 1 of 3 numbers"):
        watch.close()
    watch.close()
    assert len(watch.findings) == 1
    lines = [json.loads(line) for line in (tmp_path / "metrics.jsonl").read_text().splitlines()]
    assert "average" in lines[-1]["findings"][0]["sentence"]
    assert lines[-1]["step"] == steps


def test_what_may_be_infinite_is_left_alone():
    model, optimizer, x = program()
    model.register_buffer("bias", torch.zeros(4, 4))
    model.register_buffer("row", torch.zeros(4))
    with warnings.catch_warnings():
        warnings.simplefilter("error")
        with loopos.watch(model, optimizer) as watch:
            for step in range(1, 32):
                watch.step(lambda: model(x).square().mean())
                if step == 3:
                    model.bias.masked_fill_(torch.eye(4, dtype=torch.bool), -math.inf)
                    model.row[2] = -math.inf
                    model.mask = torch.full((5, 5), math.inf)
                    model.register_buffer("late", torch.full((3,), math.inf))
                if step == 12:
                    model.least.fill_(2.0)
                if step == 22:
                    model.least.fill_(math.inf)
                    model.late.mul_(2.0)
    assert not watch.findings


def test_a_hit_says_enough_by_itself():
    model, optimizer, x = program()
    with warnings.catch_warnings():
        warnings.simplefilter("error")
        with loopos.watch(model, optimizer) as watch, pytest.raises(loopos.NonFiniteError):
            watch.step(lambda: model(x * math.nan).square().mean())
    assert not watch.findings


def test_a_skipped_step_that_leaves_a_buffer_broken():
    model, optimizer, x = program()
    watch = loopos.watch(model, optimizer, policy="skip")
    watch.step(lambda: model(x * math.nan).square().mean())
    with pytest.warns(RuntimeWarning, match=r"running_(mean|var)\[0\] = nan"):
        watch.close()
    assert [alarm.step for alarm in watch.findings] == [1, 1]


def test_only_what_has_news_is_looked_at(monkeypatch):
    model, _, x = program()
    buffers = Buffers(model)
    running, looked = Running(model, buffers), []
    monkeypatch.setattr(
        "loopos.watch.running.Norms", lambda found: looked.append(len(found)) or type("", (), {"bad": []})
    )
    taken = buffers.take()
    model(x)
    buffers.learn(taken)
    for _ in range(2):
        assert running.look(1) == []
    model.average.add_(1.0)
    assert running.look(1) == []
    assert looked == [2, 2, 3]  # the running mean and variance, which the forward pass writes; then the average too


def test_complex_and_small_floats():
    model = torch.nn.Module()
    model.register_buffer("wave", torch.zeros(2, dtype=torch.complex64))
    model.register_buffer("small", torch.zeros(3).to(torch.float8_e5m2))
    model.register_buffer("count", torch.zeros(1).long())
    running = Running(model, Buffers(model))
    assert running.look(1) == []
    model.wave[1] = complex(0.0, math.nan)
    model.small.copy_(torch.tensor([0.0, math.nan, 0.0]))
    assert [alarm.sentence.split(" =")[0] for alarm in running.look(2)] == ["wave[1]", "small[1]"]
