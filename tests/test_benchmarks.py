"""The benchmark compares like with like: same split, same model, every held-out token scored once by both engines."""

from __future__ import annotations

import dataclasses
import importlib
import json
import os
import runpy
import subprocess
import sys
from pathlib import Path

import numpy as np
import pytest

import loopos

BENCHMARKS = Path(__file__).resolve().parents[1] / "benchmarks"
SETTING = runpy.run_path(str(BENCHMARKS / "nano_setting.py"))


@pytest.mark.parametrize("length", [2, 64, 65, 66, 129, 64 * 64 * 2 + 1, 64 * 64 * 2 + 40])
def test_every_held_out_token_but_the_first_is_a_target_once(length):
    ids = np.arange(length)
    batches = list(SETTING["held_out_windows"](ids))
    assert np.concatenate([targets.ravel() for _, targets in batches]).tolist() == list(range(1, length))
    for x, y in batches:
        assert x.shape == y.shape
        assert np.array_equal(x + 1, y)
        assert x.shape[0] <= SETTING["EVAL_BATCH"]
        assert x.shape[1] <= SETTING["BLOCK"]


def test_the_split_keeps_the_last_tenth_and_the_vocabulary_is_of_the_whole(tmp_path):
    (tmp_path / "text").write_text("abc" * 30 + "dé" * 5, encoding="utf-8")
    train, held_out, vocab_size = SETTING["characters"](tmp_path / "text")
    assert train.tolist() == [0, 1, 2] * 30
    assert held_out.tolist() == [3, 4] * 5
    assert vocab_size == 5


def _run(script, *arguments):
    command = [sys.executable, str(BENCHMARKS / script), *arguments]
    beside = os.pathsep.join(filter(None, [str(Path(loopos.__file__).parents[1]), os.environ.get("PYTHONPATH")]))
    environment = {**os.environ, "PYTHONPATH": beside}
    run = subprocess.run(command, capture_output=True, text=True, timeout=120, env=environment)
    assert run.returncode == 0, run.stderr
    return run


@pytest.mark.unsanitized("processes of its own, without the sanitizers' libraries")
def test_the_table_of_methods_has_the_best_rate_of_each(tmp_path):
    pytest.importorskip("tokenizers", reason="the extra [hf]")
    pytest.importorskip("jinja2", reason="the extra [hf]")
    planet = (BENCHMARKS.parent / "examples/planet.jsonl").read_text()
    tokenizer = loopos.Tokenizer.train([planet], 300, ("<|end|>",))
    tokenizer.config |= {"eos_token": "<|end|>"}
    tokenizer.chat_template = "{% for m in messages %}{{ m.role }}: {{ m.content }}<|end|>\n{% endfor %}"
    model = loopos.Model(loopos.ModelConfig(tokenizer.vocab_size, 640, n_layer=1, n_head=2, d_model=32), seed=0)
    model.tokenizer = tokenizer
    model.save_pretrained(tmp_path)
    run = _run("adapter_methods.py", str(tmp_path), "--epochs", "1", "--methods", "full,lora")
    tried = [json.loads(line) for line in run.stderr.splitlines()]
    assert [each["method"] for each in tried] == ["full", "lora", "lora", "lora"]
    assert len({each["rate"] for each in tried[1:]}) == 3
    assert all(each["peak"] > 30 and each["after"] > 1 and np.isfinite(each["loss"]) for each in tried)
    rows = [line.split(" | ") for line in run.stdout.splitlines()[2:]]
    forgot_least = min(tried[1:], key=lambda each: each["after"])
    assert [row[0] for row in rows] == ["| full", "| lora"]
    assert rows[1][1] == f"{forgot_least['rate']:g}"  # no answer is right, so that decides


@pytest.mark.reference
def test_both_programs_run_and_do_the_same_job(tmp_path):
    pytest.importorskip("torch")
    text = tmp_path / "text"
    text.write_text("to be or not to be, that is the question. " * 60, encoding="utf-8")
    lines = _run("nano.py", str(text), "--steps", "3", "--rounds", "1").stdout.splitlines()
    ours, theirs = (json.loads(line) for line in lines[:2])
    assert ours["engine"].startswith("loopos ")
    assert theirs["engine"].startswith("torch ")
    for key in ("threads", "steps", "parameters", "eval_tokens"):
        assert ours[key] == theirs[key], key
    uniform = np.log(len(set(text.read_text())))
    assert abs(ours["eval_loss"] - uniform) < 0.3  # three steps of warm-up: hardly away from a uniform guess
    assert abs(theirs["eval_loss"] - uniform) < 0.3
    assert "torch / loopos" in lines[-1]


@pytest.mark.unsanitized("processes of its own, without the sanitizers' libraries")
def test_the_loading_of_pictures_stands_beside_what_a_step_eats(monkeypatch, capsys):
    """Whether it is enough is the machine's; here steps are told that eat little, and much."""
    pytest.importorskip("PIL", reason="needs the extra [vision]")
    loading = _module("picture_loading", monkeypatch)
    monkeypatch.setattr(loading, "STEPS", 2)
    arguments = ["--pictures", "12", "--width", "60", "--height", "50", "--setting", "small-captioner"]
    monkeypatch.setattr(sys, "argv", ["picture_loading.py", *arguments])
    for eats, code in ((1e-3, 0), (1e9, 1)):
        monkeypatch.setattr(loading, "eaten", lambda *_, eats=eats: {"small-captioner": {"float32": eats}})
        with pytest.raises(SystemExit) as ended:
            loading.main()
        told = capsys.readouterr().out.splitlines()
        assert ended.value.code == code
        starts = [line.split(", ")[0].strip() for line in told[1:5]]
        assert starts == ["small-captioner", "a step eats", "first pass", "later passes"]
        assert float(told[3].split()[5]) > 0


@pytest.mark.unsanitized("processes of its own, without the sanitizers' libraries")
def test_what_a_step_eats_is_measured(monkeypatch):
    loading = _module("picture_loading", monkeypatch)
    (found,) = loading.eaten("small-vit", 1).values()
    assert found["float32"] > 0


def _module(name, monkeypatch):
    monkeypatch.syspath_prepend(BENCHMARKS)
    return importlib.import_module(name)


def test_errors_of_direction_finding_are_told_as_multiples_of_the_bound(monkeypatch, capsys):
    bounds = _module("covariance_bounds", monkeypatch)
    bounds.scene("two", dataclasses.replace(bounds.LINE, snr=10.0), [10], [200], 20)
    _, head, row = capsys.readouterr().out.strip().splitlines()
    assert head.split()[:5] == ["snapshots", "SNR", "dB", "bound", "deg"]
    music, root, esprit, shift = (float(each) for each in row.split()[3:])
    assert 0.7 < music < 1.4
    assert root == pytest.approx(music, rel=0.02)
    assert 0.7 < esprit < shift < 2


def _learned(**losses):
    runs = [
        {"seed": seed, "precision": name, "products": "fma" if name == "float32" else f"tiles {name}"}
        | {"eval_loss": loss, "eval_tokens": 1000, "train_seconds": 2.0}
        for name, values in losses.items()
        for seed, loss in enumerate(values)
    ]
    return {"machine": {"processor": "some", "threads": 2}, "steps": 2000, "runs": runs}


def test_what_a_precision_changes_is_against_float32_of_the_same_seed(monkeypatch):
    learning = _module("learning", monkeypatch)
    result = _learned(float32=[1.5, 1.25], bf16x3=[1.5, 1.2515], bf16=[1.49, 1.25])
    found = learning.differences(result)
    assert found["bf16x3"] == pytest.approx([0, 0.0015])
    assert found["bf16"] == pytest.approx([-0.01, 0])
    assert learning.too_far(result) == ["bf16"]  # by a rounding of the last bit more than 0.01
    text = learning.render(result)
    assert "| bf16x3 | tiles bf16x3 | 1.37575 | +0.00000 +0.00150 | 0.002 |" in text
    assert "2,000 updates, seeds 0, 1" in text
    assert "says nothing of them" not in text
    for run in result["runs"]:
        run["products"] = "fma"
    assert "says nothing of them" in learning.render(result)


@pytest.mark.parametrize("naive", [True, False])
@pytest.mark.parametrize(
    "row",
    ["nothing", "soft cap 30", "z-loss 1e-3", "label smoothing 0.1", "2 logits clamped to ±100"],
)
def test_the_gradient_of_each_loss_of_the_ten_fixes(row, naive, monkeypatch):
    fixes = _module("ten_fixes", monkeypatch)
    recipe = fixes.Recipe(**fixes.ROWS[row])
    rng = np.random.default_rng(0)
    logits, targets, direction = 9 * rng.normal(size=(5, 7)), rng.integers(0, 7, 5), rng.normal(size=(5, 7))
    step = 1e-5 * direction
    ends = [fixes.loss_of(logits + sign * step, targets, recipe, naive)[0] for sign in (1, -1)]
    slope = float((fixes.loss_of(logits, targets, recipe, naive)[1] * direction).sum())
    assert slope == pytest.approx((ends[0] - ends[1]) / 2e-5, rel=1e-6)  # float32 constants: 2^-24 of them


def test_the_fault_of_the_ten_fixes_is_met_in_the_last_batch_of_the_epoch(monkeypatch):
    pytest.importorskip("sklearn", reason="the digits are scikit-learn's (extra [sklearn])")
    fixes = _module("ten_fixes", monkeypatch)
    found = {row: fixes.measure(row, "naive", 0, 1) for row in ("nothing", "9 gradients checked", "soft cap 30")}
    assert (found["nothing"]["nan_step"], found["nothing"]["finite"]) == (91, False)
    assert (found["9 gradients checked"]["steps"], found["9 gradients checked"]["finite"]) == (91, True)
    assert (found["soft cap 30"]["nan_step"], found["soft cap 30"]["finite"]) == (None, True)
    assert 90 < found["nothing"]["largest_logit"] < 300


@pytest.mark.reference
def test_both_engines_compute_the_same_of_complex_matrices(monkeypatch):
    pytest.importorskip("torch")
    linalg = _module("linalg", monkeypatch)
    monkeypatch.setattr(linalg, "SOURCES", 2)
    x = linalg.inputs(2, n=6)
    mine, others = linalg.ours(x), linalg.theirs(x, 1)
    assert list(mine) == list(others)
    (loss, (dr, _, dbeta)), (of_r, of_beta) = mine["whole loss"][1](), others["whole loss"][1]()
    assert loss == pytest.approx(mine["whole loss"][0]())
    assert loss == pytest.approx(others["whole loss"][0]().item(), rel=1e-5)
    np.testing.assert_allclose(dr, of_r.numpy(), rtol=1e-3, atol=1e-5)
    assert dbeta == pytest.approx(of_beta.item(), rel=1e-4)
    for name in ("sample_covariance", "cholesky", "solve", "projector", "spectral_function log"):
        np.testing.assert_allclose(mine[name][0](), others[name][0]().numpy(), rtol=1e-3, atol=1e-4)


@pytest.mark.reference
def test_the_record_of_complex_matrices_grows(tmp_path):
    pytest.importorskip("torch")
    file = tmp_path / "linalg.json"
    for name in ("blend", "logdet"):
        options = ("--batches", "1", "--rounds", "1", "--seconds", "0", "--json", str(file), "--ops", name)
        shown = _run("linalg.py", *options).stdout
    assert "| blend | " in shown
    assert "| logdet | " in shown
    assert _run("linalg.py", "--show", str(file)).stdout == shown


def test_the_pages_say_what_the_records_say():
    _run("render.py", "--check")


def test_a_figure_that_was_typed_by_hand_is_seen(monkeypatch):
    render = _module("render", monkeypatch)
    page = (render.ROOT / "README.md").read_text(encoding="utf-8")
    typed = page.replace("| float32 over PyTorch float32 | ", "| float32 over PyTorch float32 | 9")
    assert typed != page
    assert render.rendered("README.md", typed) == page
    with pytest.raises(ValueError, match=r"README\.md must have one part from <!-- steps: made by"):
        render.rendered("README.md", page.replace("<!-- steps ends -->", ""))


def test_advice_needs_a_record_with_tiles(monkeypatch):
    render = _module("render", monkeypatch)
    times = {"loopos": 1.0, "loopos-bf16x3": 0.5, "loopos-bf16": 0.25, "torch": 1.25, "torch-medium": 0.5}
    peers = [{"peer": name, "seconds": {"median": value}} for name, value in times.items()]
    used = {"float32": "fma", "bf16x3": "tiles bf16x3", "bf16": "tiles bf16"}
    steps = {"settings": [{"peers": peers}], "precisions": {"computed": used, "why": ""}}
    (sentence,) = render.advice(steps, _learned(float32=[1.5], bf16x3=[1.5001], bf16=[1.5]))
    assert "float32's learning curve (a held-out loss within 0.00010 of it) at 2.5 to 2.5 times" in sentence
    assert "bf16 for more (2.0 to 2.0 times" in sentence
    assert render.advice(steps, None) == []
    assert render.advice(steps, _learned(float32=[1.5], bf16x3=[1.503], bf16=[1.5])) == []
    learned = _learned(float32=[1.5], bf16x3=[1.5], bf16=[1.5])
    assert "within 0.00001 of it" in render.advice(steps, learned)[0]
    assert render.advice({"settings": [{"peers": peers}]}, learned) == []
    used["bf16"] = "fma"
    assert render.advice(steps, learned) == []


@pytest.mark.unsanitized("processes of its own, without the sanitizers' libraries")
def test_learning_trains_under_each_precision(tmp_path):
    text, file = tmp_path / "text", tmp_path / "learning.json"
    text.write_text("to be or not to be, that is the question. " * 60, encoding="utf-8")
    shown = _run("learning.py", str(text), "--steps", "2", "--together", "--json", str(file)).stdout
    runs = json.loads(file.read_text())["runs"]
    assert [(run["precision"], run["products"]) for run in runs] == [
        (name, "fma" if name == "float32" else loopos._core.products(name))  # the model is small
        for name in ("float32", "bf16x3", "bf16")
    ]
    assert len({run["eval_loss"] for run in runs}) == len({run["products"] for run in runs})
    assert _run("learning.py", "--show", str(file)).stdout == shown
