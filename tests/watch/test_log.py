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


def test_the_monitor_tells_of_weights_that_move_far(tmp_path):
    watch = trained(tmp_path, decay=205.0)  # -1.05 w in a step
    assert [finding.step for finding in watch.findings if finding.name == "moved"] == [10]


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
