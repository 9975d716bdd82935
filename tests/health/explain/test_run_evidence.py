"""What a run's folder tells of the number that ended it, to report and to explain."""

from __future__ import annotations

import dataclasses
import json
import math
import tracemalloc

import pytest

import loopos
from loopos.health.explain import run_evidence
from loopos.health.explain.explain import explain
from loopos.health.report.report import page
from loopos.health.runs import read_run
from loopos.run.bundle import bundles, read_birth, read_bundle, write_bundle
from loopos.run.checkpoint import load_checkpoint
from loopos.run.metrics import read_metrics

CONFIG = loopos.ModelConfig(vocab_size=256, context_length=16, n_layer=2, n_head=2, d_model=16)
TEXT = "to be, or not to be, that is the question: " * 30
NO_EVENT = "None: every number in the log is finite"


def failed(folder, **kwargs):
    settings = {"optimizer": "sgd", "learning_rate": 1e30, "max_grad_norm": None, "weight_decay": 0.0}
    settings |= {"max_steps": 20, "batch_size": 4, "lr_schedule": "constant", "progress": False}
    with pytest.raises(loopos.NonFiniteError) as caught:
        loopos.train(CONFIG, TEXT, output_dir=folder, **(settings | kwargs))
    return caught.value


def healthy(folder, **kwargs):
    loopos.train(CONFIG, TEXT, output_dir=folder, max_steps=6, batch_size=4, log_every=1, progress=False, **kwargs)


def without_births(folder):
    """As it was logged before births were in the log."""
    log = folder / "metrics.jsonl"
    log.write_text("".join(json.dumps(line) + "\n" for line in read_metrics(log) if "birth" not in line))


@pytest.mark.parametrize("logged", [True, False])
def test_report_and_explain_name_the_birth_that_halted_a_run(tmp_path, logged):
    birth = failed(tmp_path).birth
    assert birth.cause_class == "learning rate too large"
    if not logged:
        without_births(tmp_path)
    events = page(read_run(tmp_path)).partition("<h2>Events</h2>")[2].partition("<h2>Bundles</h2>")[0]
    assert NO_EVENT not in events
    assert f"step {birth.step}" in events
    assert birth.tensor in events
    found = explain(tmp_path)
    first = found.findings[0]
    assert (first.cause, first.confidence) == ("learning-rate-too-large", "certain")
    assert birth.cause in first.says
    assert any(f"op {birth.op}" in line for line in first.evidence)
    assert any("update_ratio" in line for line in first.evidence)
    assert "data" not in found.causes
    assert "learning rate" in page(read_run(tmp_path)).partition("<h2>Explanation</h2>")[2]


def test_a_resumed_run_that_halts_again_tells_the_second_birth_once(tmp_path):
    failed(tmp_path)
    again = failed(tmp_path, resume="auto", learning_rate=1e29).birth
    lines = [line for line in read_metrics(tmp_path / "metrics.jsonl") if "birth" in line]
    assert [(line["step"], line["birth"]) for line in lines] == [(again.step, str(again))]
    html = page(read_run(tmp_path))
    assert html.count("birth: step") == 1
    assert NO_EVENT not in html


@pytest.mark.parametrize("kind", ["skip", "rewind"])
def test_the_cause_stands_before_guesses_when_steps_were_refused(tmp_path, kind):
    failed(tmp_path, on_nonfinite=kind, log_every=1)
    found = explain(tmp_path)
    assert (found.findings[0].cause, found.findings[0].confidence) == ("learning-rate-too-large", "certain")
    assert "step-skipped" in found.causes
    assert "data" not in found.causes
    sure = [finding.confidence for finding in found.findings]
    assert sure == sorted(sure, key=["certain", "likely", "possible", "unknown"].index)


def test_a_leap_alone_is_evidence_where_no_birth_was_kept(tmp_path):
    failed(tmp_path, on_nonfinite="skip", log_every=1)
    log = tmp_path / "metrics.jsonl"
    lines = [{name: value for name, value in line.items() if name != "birth"} for line in read_metrics(log)]
    log.write_text("".join(json.dumps(line) + "\n" for line in lines))
    for path in (tmp_path / "bundles").iterdir():
        path.unlink()
    found = run_evidence.leap(read_run(tmp_path))
    assert (found.cause, found.confidence) == ("learning-rate-too-large", "likely")
    assert "learning rate of 1e+30" in found.says
    assert "learning-rate-too-large" in explain(tmp_path).causes
    assert "data" not in explain(tmp_path).causes


def test_a_bundle_that_the_run_has_gone_past_is_no_cause(tmp_path):
    failed(tmp_path / "bad")
    healthy(tmp_path / "good")
    (tmp_path / "bad/bundles").rename(tmp_path / "good/bundles")
    (path,) = bundles(tmp_path / "good")
    write_bundle(path, dataclasses.replace(read_bundle(path), run=load_checkpoint(tmp_path / "good").run))
    run = read_run(tmp_path / "good")
    assert [ending.past for ending in run_evidence.endings(run)] == [True]
    assert run_evidence.leap(run) is None
    found = explain(tmp_path / "good")
    assert "learning-rate-too-large" not in found.causes
    assert any("gone past" in note for note in found.notes)
    assert "gone past this step" in page(run)


def test_a_damaged_bundle_is_a_note(tmp_path):
    healthy(tmp_path)
    (tmp_path / "bundles").mkdir()
    (tmp_path / "bundles/step-00000009.safetensors").write_bytes(b"damaged")
    assert any("step-00000009" in note for note in explain(tmp_path).notes)
    assert "step-00000009" in page(read_run(tmp_path))


def test_a_healthy_run_keeps_its_silence(tmp_path):
    healthy(tmp_path)
    assert list(run_evidence.endings(read_run(tmp_path))) == []
    assert run_evidence.births(read_run(tmp_path)) == {}
    assert NO_EVENT in page(read_run(tmp_path))


def test_a_bundle_has_the_id_of_its_run_and_one_of_another_run_is_left_out(tmp_path):
    failed(tmp_path)
    (path,) = bundles(tmp_path)
    first = read_bundle(path).run
    assert first == load_checkpoint(tmp_path).run is not None
    assert read_birth(path)[2] == first
    with pytest.warns(UserWarning, match="holds checkpoints of another run"):
        loopos.train(CONFIG, TEXT, output_dir=tmp_path, max_steps=1, batch_size=4, progress=False)  # ends before it
    assert load_checkpoint(tmp_path).run != first
    (ending,) = run_evidence.endings(read_run(tmp_path))
    assert (ending.birth, ending.problem) == (None, f"{path.name} is of another run, which had this folder before")
    found = explain(tmp_path)
    assert "learning-rate-too-large" not in found.causes
    assert any("of another run" in note for note in found.notes)
    assert "of another run" in page(read_run(tmp_path))


def test_the_bundle_of_a_fresh_run_in_a_used_folder_is_its_own_though_no_checkpoint_could_be_written(tmp_path):
    """The checkpoints are still those of the run before: the log tells whose bundle it is."""
    old = failed(tmp_path).birth
    before = load_checkpoint(tmp_path).run
    model = loopos.Model(CONFIG, seed=1)
    model.parameters()["blocks.1.mlp_norm.weight"][3] = math.nan
    with pytest.warns(UserWarning, match="holds checkpoints of another run"), pytest.raises(loopos.NonFiniteError) as e:
        loopos.train(model, TEXT, output_dir=tmp_path, max_steps=2, batch_size=4, progress=False)
    new = e.value.birth
    assert load_checkpoint(tmp_path).run == before
    run = read_run(tmp_path)
    problems = {end.path: end.problem for end in run_evidence.endings(run)}
    assert problems.pop(e.value.bundle) == ""
    assert old.step != new.step
    ((path, problem),) = problems.items()
    assert problem == f"{path.name} is of another run, which had this folder before"
    assert [str(end.birth) for end in run_evidence.endings(run) if not end.problem] == [str(new)]
    assert f"{e.value.bundle.name} is of another run" not in page(run)


@pytest.mark.unsanitized("reads a long log: Python alone")
def test_a_log_of_any_length_is_streamed(tmp_path, monkeypatch):
    """Peak memory of a log of 13 MB, with its leap and birth, against what the records of it would take."""
    ratios = {f"blocks.{i}.mlp.up_proj.weight": 1e-3 for i in range(40)}
    with open(tmp_path / "metrics.jsonl", "w") as log:
        for step in range(1, 8_001):
            record = {"step": step, "loss": 5 - step / 1e4, "grad_norm": 1.0, "learning_rate": 1e-3}
            leaps = {"update_ratio": ratios | ({"tok_embed.weight": 7.5} if step == 7_990 else {})}
            log.write(json.dumps(record | leaps) + "\n")
        log.write(json.dumps({"step": 8_001, "loss": None, "birth": BIRTH}) + "\n")
    monkeypatch.setattr("loopos.health.explain.lines.HEAD", 1 << 18)
    monkeypatch.setattr("loopos.health.explain.lines.TAIL", 1 << 18)
    size = (tmp_path / "metrics.jsonl").stat().st_size
    assert size > 12 << 20
    tracemalloc.start()
    found = explain(tmp_path)
    peak = tracemalloc.get_traced_memory()[1]
    tracemalloc.stop()
    assert peak < size / 6
    assert "update 7990 moved tok_embed.weight by 7.5 times its own size" in str(found)
    assert found.causes[0] == "product-overflow"


BIRTH = "step 8001, forward pass, block 0, op linear: blocks.0.attn.qkv_proj.y[0, 0, 0] = inf (product overflow: x)"
