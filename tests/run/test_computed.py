"""The precision of a run: asked for, recorded with what it was computed with, and told when a run goes on otherwise."""

from __future__ import annotations

import json
import os
import subprocess
import sys
import warnings
from contextlib import ExitStack
from pathlib import Path

import numpy as np
import pytest

import loopos
from loopos import _core
from loopos.files.checkpoint_folder import Checkpoint
from loopos.files.run_folder import load_checkpoint
from loopos.precision import PRECISIONS, same_bits
from loopos.run.computed import Computed, compute_in, in_precision
from loopos.run.metrics import read_metrics
from loopos.training import default_settings
from loopos.vision import ImageEncoder, VisionConfig

CONFIG = loopos.ModelConfig(256, 16, 1, 2, 16)
TEXT = "to be or not to be. " * 30
OPTIONS = {"log_every": 1, "progress": False, "max_steps": 2}
HALF = OPTIONS | {"lr_schedule": "constant"}  # the same whatever max_steps is


@pytest.fixture(autouse=True)
def _no_precision_of_the_caller(monkeypatch):
    monkeypatch.delenv("LOOPOS_PRECISION", raising=False)


def precision_of(asked, model, checkpoint=None):
    return in_precision(default_settings(precision=asked), model, checkpoint).precision


def checkpoint_of(**state):
    return Checkpoint(Path("run/step-00000002"), 2, {}, state)


def test_what_was_asked_for_wins_and_a_models_own_is_next(monkeypatch):
    own, double = loopos.Model(CONFIG, precision="bf16"), loopos.Model(CONFIG, dtype="float64")
    assert (precision_of(None, own), precision_of("bf16x3", own)) == ("bf16", "bf16x3")
    assert (precision_of(None, CONFIG), precision_of("bf16", CONFIG)) == ("float32", "bf16")
    assert precision_of(None, CONFIG, checkpoint_of(dtype="float32", precision="bf16")) == "bf16"
    assert precision_of("float32", CONFIG, checkpoint_of(dtype="float32", precision="bf16")) == "float32"
    assert precision_of(None, own, checkpoint_of(dtype="float32", precision="bf16x3")) == "bf16"
    monkeypatch.setenv("LOOPOS_PRECISION", "bf16x3")
    assert (precision_of(None, own), precision_of(None, CONFIG)) == ("bf16", "bf16x3")
    assert precision_of(None, CONFIG, checkpoint_of(dtype="float32")) == "float32"  # before there were precisions
    with pytest.raises(loopos.CheckpointError, match=r"state\.json has a precision 'fp8', which is none"):
        precision_of(None, CONFIG, checkpoint_of(dtype="float32", precision="fp8"))
    assert precision_of(None, CONFIG, checkpoint_of(dtype="float64")) == precision_of(None, double) == "float32"
    assert precision_of("bf16", double) == precision_of("bf16", CONFIG, checkpoint_of(dtype="float64")) == "bf16"


def test_train_sets_it_and_the_model_keeps_it():
    model = loopos.Model(CONFIG)
    loopos.train(model, TEXT, precision="bf16", **OPTIONS)
    assert model.precision == model._core.precision == "bf16"
    loopos.train(model, TEXT, **OPTIONS)
    assert model.precision == "bf16"
    assert loopos.train(CONFIG, TEXT, precision="bf16x3", **OPTIONS).model.precision == "bf16x3"
    images, labels = np.zeros((4, 8, 8, 3), np.uint8), np.arange(4) % 2
    encoder = ImageEncoder(VisionConfig(8, 4, 1, 2, 16, num_classes=2))
    loopos.train(encoder, (images, labels), precision="bf16", max_steps=1, batch_size=2, progress=False)
    assert encoder.precision == encoder._core.precision == "bf16"


def test_what_cannot_be_is_refused_before_anything_is_written(tmp_path):
    folder = tmp_path / "run"
    for model, precision, error in (
        (loopos.Model(CONFIG, dtype="float64"), "float64", ValueError),
        (loopos.Model(CONFIG), "bfloat16", ValueError),
        (CONFIG, 16, TypeError),
    ):
        with pytest.raises(error, match="train: precision"):
            loopos.train(model, TEXT, precision=precision, output_dir=folder, **OPTIONS)
        assert not folder.exists()


def test_a_run_that_cannot_begin_leaves_the_models_own(tmp_path):
    model = loopos.Model(CONFIG)
    with pytest.raises(MemoryError):
        loopos.train(model, TEXT, precision="bf16", **OPTIONS, batch_size=2**40)
    assert model.precision == model._core.precision == "float32"
    with ExitStack() as undo:
        compute_in(model, "bf16x3", undo)
        assert model.precision == "bf16x3"
    assert model.precision == "float32"


@pytest.mark.parametrize("precision", PRECISIONS)
def test_checkpoint_log_and_record_say_what_was_asked_and_what_computed(tmp_path, precision):
    result = loopos.train(CONFIG, TEXT, precision=precision, output_dir=tmp_path, **OPTIONS)
    products = "fma" if precision == "float32" else _core.products(precision)  # the model is small
    said = {"precision": precision, "products": products}
    state = load_checkpoint(tmp_path).state
    assert {name: state[name] for name in said} == said
    assert state["settings"]["precision"] == precision
    first, second = read_metrics(tmp_path / "metrics.jsonl")
    assert {name: first[name] for name in said} == said
    assert not set(said) & set(second)
    record = result.model.record
    assert {name: record[name] for name in said} == said
    assert (record["dtype"], record["products_before"]) == ("float32", [])
    card = tmp_path / "hf"
    result.model.save_pretrained(card)
    assert (
        f"arithmetic: float32, products of precision {precision}, computed with {said['products']}\n"
        in (card / "README.md").read_text()
    )


def test_a_float64_run_says_float64(tmp_path):
    loopos.train(loopos.Model(CONFIG, dtype="float64"), TEXT, output_dir=tmp_path, **OPTIONS)
    state = load_checkpoint(tmp_path).state
    assert (state["precision"], state["products"]) == ("float32", "float64")
    with warnings.catch_warnings():
        warnings.simplefilter("error")
        loopos.train(CONFIG, TEXT, output_dir=tmp_path, resume="auto", **OPTIONS | {"max_steps": 3})


def test_another_precision_is_a_warning_that_bits_will_differ(tmp_path):
    loopos.train(CONFIG, TEXT, precision="bf16", output_dir=tmp_path, **HALF)
    more = HALF | {"max_steps": 3, "output_dir": tmp_path, "resume": "auto"}
    with warnings.catch_warnings():
        warnings.simplefilter("error")
        assert loopos.train(CONFIG, TEXT, **more).model.precision == "bf16"  # that of the checkpoint
    said = r"train: precision is 'float32' here, 'bf16' in .*step-00000003: the run goes on with products as fma, "
    said += "where they were .* its bits will differ" if _core.products("bf16") != "fma" else "as they were"
    with pytest.warns(UserWarning, match=said):
        loopos.train(loopos.Model(CONFIG), TEXT, **more | {"max_steps": 4})


def test_bits_differ_where_products_do_and_not_where_precisions_do():
    here = Computed(_core.isa(), "bf16", "fma")
    (said,) = here.from_those(checkpoint_of(isa=_core.isa(), precision="float32", products="fma", dtype="float32"))
    assert said.endswith("as they were, and the products have the bits that they had")
    (said,) = here.from_those(
        checkpoint_of(isa=_core.isa(), precision="bf16x3", products="tiles bf16x3", dtype="float32")
    )
    assert "its bits will differ" in said


def test_a_checkpoint_from_before_there_were_precisions():
    assert Computed.recorded({"isa": "avx2", "dtype": "float32"}) == ("avx2", "float32", "fma")
    assert Computed.recorded({"isa": "avx2", "dtype": "float64"}) == ("avx2", "float32", "float64")
    state = {"isa": _core.isa(), "dtype": "float32"}
    assert Computed.of(loopos.Model(CONFIG, precision="float32")).from_those(checkpoint_of(**state)) == []


def test_emulated_tiles_give_the_bits_of_tiles():
    assert same_bits("emulated bf16", "tiles bf16")
    assert not same_bits("fma", "tiles bf16")
    assert not same_bits("tiles bf16x3", "tiles bf16")


GOES_ON = """
import json, sys, warnings, loopos
from loopos.files.run_folder import load_checkpoint
folder, settings = sys.argv[1], json.loads(sys.argv[2])
config = loopos.ModelConfig(256, 32, 1, 2, 64)
with warnings.catch_warnings(record=True) as caught:
    warnings.simplefilter("always")
    model = loopos.train(config, "to be or not to be. " * 99, output_dir=folder, resume="auto", **settings).model
state = load_checkpoint(folder).state
names = "precision", "products", "products_before"
print(json.dumps({"warned": [str(each.message) for each in caught], "record": [model.record[n] for n in names],
    "state": [state[n] for n in names[:2]], "weight": model.parameters()[
    "blocks.0.mlp.up_proj.weight"].sum(dtype="float64").item().hex()}))
"""


def goes_on(folder, products, max_steps):
    env = {**os.environ, "LOOPOS_PRODUCTS": products, "PYTHONPATH": str(Path(loopos.__file__).parents[1])}
    settings = {"precision": "bf16x3", "batch_size": 8, "lr_schedule": "constant", "progress": False}
    command = [sys.executable, "-c", GOES_ON, str(folder), json.dumps(settings | {"max_steps": max_steps})]
    run = subprocess.run(command, capture_output=True, text=True, timeout=120, env=env)
    assert run.returncode == 0, run.stderr
    return json.loads(run.stdout)


def test_a_resume_under_other_products_says_that_bits_will_differ(tmp_path):
    began = goes_on(tmp_path, "emulated", 2)
    assert (began["warned"], began["record"]) == ([], ["bf16x3", "emulated bf16x3", []])
    assert goes_on(tmp_path, "emulated", 3)["warned"] == []
    other = goes_on(tmp_path, "fma", 4)
    (warned,) = other["warned"]
    for part in ("were computed with emulated bf16x3", "precision 'bf16x3' with fma", "bits will differ"):
        assert part in warned
    assert other["record"] == ["bf16x3", "fma", ["emulated bf16x3"]]
    assert other["state"] == ["bf16x3", "fma"]
    records = read_metrics(tmp_path / "metrics.jsonl")
    assert [(r["step"], r["products"]) for r in records if "products" in r] == [
        (1, "emulated bf16x3"),
        (3, "emulated bf16x3"),
        (4, "fma"),
    ]
