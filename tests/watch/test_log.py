"""What a watched run leaves in its folder is read like one of our own."""

from __future__ import annotations

import json
import math

import pytest

import loopos
from loopos.health.report.report import write_report
from loopos.health.runs import read_run

pytestmark = pytest.mark.reference
torch = pytest.importorskip("torch")

from loopos.watch.log import ahead_of  # noqa: E402


def trained(folder, steps=25, bad=None, policy="halt", decay=0.01):
    torch.manual_seed(0)
    model = torch.nn.Linear(4, 3)
    optimizer = torch.optim.AdamW(model.parameters(), lr=0.01, weight_decay=decay)
    x, targets = torch.randn(8, 4), torch.randint(0, 3, (8,))
    with loopos.watch(model, optimizer, policy=policy, output_dir=folder) as watch:
        for step in range(1, steps + 1):
            batch = x * math.nan if step == bad else x
            watch.step(lambda batch=batch: torch.nn.functional.cross_entropy(model(batch), targets))
    return watch


def test_a_healthy_run(tmp_path):
    watch = trained(tmp_path / "a")
    run = read_run(tmp_path / "a")
    assert [record["step"] for record in run.records] == [1, 10, 20, 25]
    assert run.damaged == []
    first = run.records[0]
    assert first["learning_rate"] == 0.01
    assert first["applied"] == first["attempted"] == 1
    assert set(first["update_ratio"]) == {"weight"}
    assert 0 < first["update_ratio"]["weight"] < 1
    bits = [json.loads(line) for line in (tmp_path / "a/bits.jsonl").read_text().splitlines()]
    assert len(bits) == 25
    assert float.fromhex(bits[-1]["loss_hex"]) == watch.loss == run.records[-1]["loss"]
    assert float.fromhex(bits[-1]["grad_norm_hex"]) == watch.grad_norm
    assert watch.findings == []


def test_a_hit_is_in_the_log_the_report_and_the_explanation(tmp_path):
    with pytest.raises(loopos.NonFiniteError) as error:
        trained(tmp_path, bad=7)
    last = read_run(tmp_path).records[-1]
    assert (last["step"], last["loss"], last["nonfinite"], last["applied"]) == (7, None, 1, 6)
    assert last["birth"] == str(error.value.birth)
    page = write_report(tmp_path).path.read_text()
    assert "input not finite" in page
    assert "loopos replay" in page
    found = loopos.explain(tmp_path)
    assert found.findings[0].cause == "input-not-finite"
    assert found.findings[0].confidence == "certain"


def test_a_skipped_step_is_counted_and_no_ending(tmp_path):
    watch = trained(tmp_path, bad=7, policy="skip")
    assert (watch.steps, watch.skipped) == (25, 1)
    last = read_run(tmp_path).records[-1]
    assert (last["attempted"], last["applied"], last["skipped"]) == (25, 24, 1)


def test_the_folder_of_another_run_is_kept_aside(tmp_path):
    trained(tmp_path, steps=3)
    trained(tmp_path, steps=2)
    assert [record["step"] for record in read_run(tmp_path).records] == [1, 2]
    assert (tmp_path / "metrics.jsonl.old").exists()


def moves(watch):
    return [finding.step for finding in watch.findings if finding.name == "moved"]


def test_the_monitor_tells_of_weights_that_move_far(tmp_path):
    assert moves(trained(tmp_path, decay=205.0)) == [2]  # -1.05 w in a step, and the loss of the next is no lower
    assert moves(trained(tmp_path, decay=0.01)) == []


def rising(rate, scheduler, steps=12):
    """Findings of a program whose scheduler is ``scheduler(optimizer)``."""
    torch.manual_seed(0)
    model = torch.nn.Linear(4, 3)
    optimizer = torch.optim.AdamW(model.parameters(), lr=rate)
    schedule = scheduler(optimizer)
    x, targets = torch.randn(8, 4), torch.randint(0, 3, (8,))
    with loopos.watch(model, optimizer) as watch:
        for _ in range(steps):
            watch.step(lambda: torch.nn.functional.cross_entropy(model(x), targets))
            schedule.step()
    return moves(watch)


def test_where_a_scheduler_leads_is_told_in_the_second_step():
    schedules = torch.optim.lr_scheduler

    def warm_up(optimizer):
        return schedules.LambdaLR(optimizer, lambda t: min(1.0, (t + 1) / 1000))

    assert rising(3.0, warm_up) == [2]
    assert rising(0.01, warm_up) == []
    assert rising(3.0, lambda optimizer: schedules.LinearLR(optimizer, 1e-3, 1.0, 1000)) == [2]
    assert rising(0.1, lambda optimizer: schedules.OneCycleLR(optimizer, 3.0, total_steps=1000, div_factor=1e4)) == [2]


def test_a_rate_that_fell_is_not_expected_to_come_back():
    """Gradients that become larger while it falls would have rewritten the weights at the rate of the start."""
    torch.manual_seed(0)
    model = torch.nn.Linear(4, 1, bias=False)
    optimizer = torch.optim.SGD(model.parameters(), lr=0.1)
    schedule = torch.optim.lr_scheduler.ExponentialLR(optimizer, 0.5)
    with loopos.watch(model, optimizer) as watch:
        for step in range(14):
            watch.step(lambda step=step: model(torch.ones(1, 4)).sum() * (0.01 if step < 9 else 200.0))
            schedule.step()
    assert moves(watch) == []


def test_the_rate_ahead_is_of_the_scheduler_alone():
    optimizer = torch.optim.SGD(torch.nn.Linear(4, 3).parameters(), lr=0.5)
    assert ahead_of(optimizer) == 1.0
    torch.optim.lr_scheduler.LambdaLR(optimizer, lambda t: 0.25)
    assert ahead_of(optimizer) == 4.0
    optimizer.param_groups[0]["lr"] = 0.0
    assert ahead_of(optimizer) == 1.0


def test_the_monitor_tells_a_jump(tmp_path):
    torch.manual_seed(0)
    model = torch.nn.Linear(4, 1)
    optimizer = torch.optim.SGD(model.parameters(), lr=1e-6)
    x = torch.randn(8, 4)
    with loopos.watch(model, optimizer, output_dir=tmp_path) as watch:
        for step in range(60):
            scale = 1e4 if step == 50 else 1.0
            watch.step(lambda scale=scale: (model(x) * scale).square().mean())
    assert watch.findings[0].step == 51
    told = [record for record in read_run(tmp_path).records if "findings" in record]
    assert told[0]["step"] == 51


def test_an_optimizer_without_a_rate_is_nothing_to_tell(tmp_path):
    class Plain(torch.optim.Optimizer):
        @torch.no_grad()
        def step(self, closure=None):
            for weight in self.param_groups[0]["params"]:
                weight.sub_(0.01 * weight.grad)

    model = torch.nn.Linear(4, 3)
    with loopos.watch(model, Plain(model.parameters(), {}), output_dir=tmp_path) as watch:
        for _ in range(12):
            watch.step(lambda: model(torch.ones(2, 4)).square().mean())
    assert watch.steps == 12
    assert not watch.findings
