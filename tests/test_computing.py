"""The precision of a model: readable, settable, checked, and the same for its copies."""

from __future__ import annotations

import copy
import json
import os
import pickle
import subprocess
import sys
from pathlib import Path

import numpy as np
import pytest

import loopos
from loopos import _core
from loopos.precision import PRECISIONS
from loopos.vision import Captioner, CaptionerConfig, ImageEncoder, VisionConfig

CONFIG = loopos.ModelConfig(32, 8, 1, 2, 16)
PICTURES = VisionConfig(8, 4, 1, 2, 16, num_classes=3)
MAKERS = {
    "Model": lambda **kw: loopos.Model(CONFIG, **kw),
    "ImageEncoder": lambda **kw: ImageEncoder(PICTURES, **kw),
    "Captioner": lambda **kw: Captioner(CaptionerConfig(VisionConfig(8, 4, 1, 2, 16), CONFIG), **kw),
}


@pytest.fixture(autouse=True)
def _no_precision_of_the_caller(monkeypatch):
    monkeypatch.delenv("LOOPOS_PRECISION", raising=False)


@pytest.fixture(params=MAKERS)
def make(request):
    return MAKERS[request.param]


@pytest.mark.parametrize("precision", PRECISIONS)
def test_it_is_given_or_set_and_the_core_has_it(make, precision):
    given, later = make(precision=precision), make()
    later.precision = precision
    for model in (given, later):
        assert model.precision == model._core.precision == model.arithmetic.precision == precision
        assert model.products == ("fma" if precision == "float32" else _core.products(precision))  # it is small
        assert (f"precision='{precision}'" in repr(model)) == (precision != "float32")
    assert make().precision == "float32"


def test_copies_have_it(make):
    model = make(precision="bf16x3")
    for twin in (copy.copy(model), copy.deepcopy(model), pickle.loads(pickle.dumps(model))):
        assert twin.precision == twin._core.precision == "bf16x3"
        twin.precision = "bf16"
        assert model.precision == model._core.precision == "bf16x3"


def test_float64_is_never_affected(make, monkeypatch):
    plain = make(dtype="float64")
    monkeypatch.setenv("LOOPOS_PRECISION", "bf16")  # a default, which is about float32
    assert (make(dtype="float64").precision, plain.products) == ("float32", "float64")
    asked = make(dtype="float64", precision="bf16")
    assert (asked.precision, asked.products) == ("bf16", "float64")
    for model in (plain, asked):  # the same weights: draws of one seed
        model.precision = "bf16x3"
        assert model.products == "float64"
        assert all(np.array_equal(array, plain.parameters()[name]) for name, array in model.parameters().items())


@pytest.mark.parametrize(
    ("name", "said"),
    [
        ("bfloat16", "'bf16'$"),
        ("torch.bfloat16", "'bf16'$"),
        ("float16", "65504"),
        ("medium", "'medium' is 'bf16'"),
        ("high", "nearest to 'bf16x3'"),
        ("float64", "dtype='float64'"),
        ("bf17", "'bf17'$"),
        ("", "''$"),
    ],
)
def test_another_name_is_refused_in_a_sentence(make, name, said):
    model = make(precision="bf16")
    for refused in (lambda: make(precision=name), lambda: setattr(model, "precision", name)):
        with pytest.raises(ValueError, match=f"precision must be one of 'float32', 'bf16x3', 'bf16', got .*{said}"):
            refused()
    with pytest.raises(TypeError, match="precision must be one of"):
        make(precision=16)
    assert model.precision == "bf16"


def test_the_environment_is_the_default(make, monkeypatch):
    monkeypatch.setenv("LOOPOS_PRECISION", "bf16x3")
    assert make().precision == "bf16x3"
    assert make(precision="float32").precision == "float32"
    monkeypatch.setenv("LOOPOS_PRECISION", "")
    assert make().precision == "float32"
    monkeypatch.setenv("LOOPOS_PRECISION", "tf32")
    with pytest.raises(ValueError, match=r"LOOPOS_PRECISION='tf32': expected float32, bf16x3 or bf16$"):
        make()
    assert make(precision="bf16").precision == "bf16"


def test_it_cannot_be_set_while_the_model_is_trained():
    model, refused = loopos.Model(CONFIG), []

    class Meddler(loopos.Callback):
        def on_step_end(self, info):
            try:
                info["model"].precision = "bf16"
            except RuntimeError as error:
                refused.append(str(error))

    loopos.train(model, np.arange(99) % 32, max_steps=1, progress=False, callbacks=[Meddler()])
    assert refused == ["Model.precision: loopos.train is training this model; call it before train or after it"]
    assert model.precision == model._core.precision == "float32"


def test_folders(tmp_path):
    loopos.Model(CONFIG, precision="bf16").save_pretrained(tmp_path / "hf")
    assert loopos.Model.from_pretrained(tmp_path / "hf").precision == "float32"  # of a run, and not of weights
    assert loopos.Model.from_pretrained(tmp_path / "hf", precision="bf16").precision == "bf16"
    small = loopos.Model.from_pretrained(tmp_path / "hf", weights="int8", precision="bf16x3")
    assert (small.weights, small.precision) == ("int8", "bf16x3")
    loopos.Model(CONFIG, dtype="float64").save_pretrained(tmp_path / "double")
    for folder in (tmp_path / "hf", tmp_path / "double"):
        assert loopos.Model.from_pretrained(folder, dtype="float64", precision="bf16").products == "float64"
    assert loopos.Model.from_pretrained(tmp_path / "double", dtype="float32", precision="bf16").precision == "bf16"
    for name in ("ImageEncoder", "Captioner"):
        model = MAKERS[name]()
        model.save(tmp_path / name)
        assert type(model).load(tmp_path / name, precision="bf16").precision == "bf16"
        assert type(model).load(tmp_path / name).precision == "float32"
    vit = ImageEncoder(VisionConfig(8, 4, 1, 2, 16, num_classes=3, class_token=True, pool="class"))
    vit.save_pretrained(tmp_path / "vit")
    assert ImageEncoder.from_pretrained(tmp_path / "vit", precision="bf16x3").precision == "bf16x3"


def test_a_head_of_classes_keeps_it():
    model = loopos.Model(CONFIG, precision="bf16")
    before = model.head()
    assert model.with_labels(["a", "b"])._core.precision == "bf16"
    model.precision = "bf16x3"
    model.take_back(before)
    assert model.precision == model._core.precision == "bf16x3"


COMPUTES = """
import json, numpy as np, loopos
ids = np.random.default_rng(0).integers(0, 512, (4, 64))
told = {}
for precision in ("float32", "bf16x3", "bf16"):
    model = loopos.Model(loopos.ModelConfig(512, 64, 2, 4, 128), seed=1, precision=precision)
    loss, grads = model.loss_and_grads(ids, np.roll(ids, -1, 1))
    told[precision] = [model.products, loss, float(sum(np.square(g, dtype=np.float64).sum() for g in grads.values()))]
print(json.dumps(told))
"""


def computed(products):
    env = {**os.environ, "LOOPOS_PRODUCTS": products, "PYTHONPATH": str(Path(loopos.__file__).parents[1])}
    run = subprocess.run([sys.executable, "-c", COMPUTES], capture_output=True, text=True, timeout=120, env=env)
    assert run.returncode == 0, run.stderr
    return json.loads(run.stdout)


def test_float32_is_said_to_be_by_six_products_where_a_matrix_is_large_enough():
    small, large = (loopos.ModelConfig(64, 8, 1, 2, 256, d_ff=each) for each in (64, 256))
    assert loopos.Model(large).products == _core.products("float32")
    assert loopos.Model(large, weights="bfloat16").products == _core.products("float32")
    assert loopos.Model(large, dtype="float64").products == "float64"
    narrow = loopos.ModelConfig(500, 8, 1, 2, 252, d_ff=1000)
    assert loopos.Model(narrow).products == "fma"
    assert loopos.Model(narrow, precision="bf16").products == _core.products("bf16")
    assert loopos.Model(small).products == _core.products("float32")  # its q, k, v and output are 256 x 256


def test_products_are_what_they_are_said_to_be():
    """Emulated, a lesser precision gives other numbers, as near as it promises; without tiles all give the same."""
    emulated, fma = computed("emulated"), computed("fma")
    assert [each[0] for each in fma.values()] == ["fma"] * 3
    assert len({each[1] for each in fma.values()}) == len({each[2] for each in fma.values()}) == 1
    assert [each[0] for each in emulated.values()] == ["fma", "emulated bf16x3", "emulated bf16"]
    assert emulated["float32"] == fma["float32"]
    for at in (1, 2):  # the loss, the squares of all gradients
        exact = emulated["float32"][at]
        x3, x1 = (abs(emulated[precision][at] - exact) / exact for precision in ("bf16x3", "bf16"))
        assert 0 < x3 < 2e-5
        assert 1e-6 < x1 < 2e-2
        assert x3 < x1 / 4
