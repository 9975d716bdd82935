"""Six mistakes with adapters: the doctor names each before the first update, and explain what the log shows of it. The
table of docs/adapters.md has the same words."""

from __future__ import annotations

import copy
import re
from pathlib import Path

import numpy as np
import pytest

import loopos
from loopos.cli import main

FIELDS = {"norm": "rmsnorm", "activation": "swiglu", "position": "rope", "bias": False}
CONFIG = loopos.ModelConfig(256, 32, 2, 2, 32, **FIELDS)
TEXT = "to be, or not to be, that is the question: whether 'tis nobler in the mind to suffer\n" * 20
SETTINGS = {"learning_rate": 1e-3, "max_steps": 24, "batch_size": 4}
PAGE = (Path(__file__).parents[2] / "docs/adapters.md").read_text()


@pytest.fixture(scope="module")
def trained():
    return loopos.train(CONFIG, TEXT, max_steps=100, learning_rate=1e-2, progress=False).model


def verdicts(model, data=TEXT, **more):
    report = loopos.doctor(model, data, **SETTINGS, **more)
    return {check.name: check for check in report.checks}


def explained(model, folder, data=TEXT):
    loopos.train(model, data, output_dir=folder, log_every=1, progress=False, **SETTINGS)
    return str(loopos.explain(folder))


def said(check, verdict, words):
    assert check.verdict == verdict, str(check)
    assert words in f"{check.measured}; {check.advice}"
    assert words in " ".join(PAGE.replace("`", "").split()), words


def adapted(trained, spec):
    model = copy.deepcopy(trained)
    model.add_adapter(spec)
    return model


def test_a_sound_adapter_is_left_in_peace(trained):
    for spec in (loopos.LoRA(rank=4), loopos.Modulated(rank=4, safe_mode=True)):
        checks = verdicts(adapted(trained, spec)).values()
        assert not [str(check) for check in checks if check.verdict in ("warn", "fail") and check.name != "updates"]


def test_a_gate_that_does_not_begin_as_1(trained):
    check = verdicts(adapted(trained, loopos.Modulated(4, gate="document")))["gate"]
    said(check, "fail", "takes from every block before anything is learned")
    recipe = "delta_mult = 0.5 * torch.sigmoid(raw) + 0.5  # Range: [0.5, 1.5]"
    assert "gate-not-identity (certain)" in str(loopos.explain(recipe))


def test_a_large_beginning(trained):
    model, rng = adapted(trained, loopos.LoRA(rank=4)), np.random.default_rng(0)
    for view in model.adapter_parameters().values():
        view[...] = rng.normal(0, 0.5, view.shape)
    said(verdicts(model)["adapter loss"], "warn", "the adapter does harm before it has learned anything")
    model = adapted(trained, loopos.Modulated(4))
    model.parameters()["blocks.1.modulate.B_add"][...] *= 1e6
    said(verdicts(model)["added part"], "warn", "begin with B_add of standard deviation 0.001")


def test_half_precision_on_quantized_weights(trained, tmp_path, capsys):
    trained.save_pretrained(tmp_path / "base")
    (tmp_path / "text.txt").write_text(TEXT)
    asked = ["--init", str(tmp_path / "base"), "--weights", "int8", "--lora-rank", "2", "--dtype", "float16"]
    for command in ("doctor", "train"):
        assert main([command, str(tmp_path / "text.txt"), *asked]) == 2
        words = "arithmetic is float32, for float16 overflows at 65504"
        assert words in capsys.readouterr().err
        assert words in PAGE
    found = str(loopos.explain("Use both --use_quantization and --use_fp16 together; quantized models should use FP32"))
    assert "half-and-quantized" in found


def test_masked_labels(trained, tmp_path):
    class Masked:
        def batch(self, step, micro=0):
            ids = np.random.default_rng(step).integers(0, 256, (2, 32))
            return ids, np.full_like(ids, -100)

    model = adapted(trained, loopos.LoRA(rank=4))
    checks = verdicts(model, Masked())
    said(checks["labels"], "fail", "every target is -100")
    assert "0 in each of 2 blocks" in checks["growth backward"].measured
    assert "explodes" not in str(checks["growth backward"])
    with pytest.warns(UserWarning, match="nothing was learned"):
        found = explained(model, tmp_path / "run", Masked())
    assert "labels-masked (certain)" in found


def test_an_adapter_that_is_never_trained(trained, tmp_path):
    model = adapted(trained, loopos.LoRA(rank=4))
    for view in model.adapter_parameters().values():
        view[...] = 0
    said(verdicts(model)["gradient reaches"], "fail", "A and B of an adapter that are both 0 stay so")
    assert "zero-gradient (likely)" in explained(model, tmp_path / "run")

    def trainer(model, data, **settings):  # its optimizer has the list of the base's parameters
        return loopos.train(copy.deepcopy(model), data, **settings)

    model = adapted(trained, loopos.LoRA(rank=4))
    said(verdicts(model, trainer=trainer)["updates"], "fail", "they have a gradient and no update")


def test_a_base_that_moves(trained, tmp_path):
    def trainer(model, data, **settings):
        result = loopos.train(model, data, **settings)
        model.parameters()["blocks.1.mlp_norm.weight"][3] += 1e-3
        return result

    model = adapted(trained, loopos.LoRA(rank=4))
    said(verdicts(model, trainer=trainer)["base"], "fail", "the trainer updates what is frozen")
    trained.save_pretrained(tmp_path / "base")
    model = loopos.Model.from_pretrained(tmp_path / "base")
    model.add_adapter(loopos.LoRA(rank=4))
    loopos.train(model, TEXT, output_dir=tmp_path / "run", progress=False, **SETTINGS)
    model.parameters()["blocks.1.mlp_norm.weight"][3] += 1e-3
    more = SETTINGS | {"max_steps": 30}
    with pytest.raises(ValueError, match=r"is not the base that the adapter in .* was trained on"):
        loopos.train(model, TEXT, resume=tmp_path / "run", output_dir=tmp_path / "run", progress=False, **more)


def test_the_table_has_the_six():
    rows = re.findall(
        r"^\| (?!mistake|---)(.*?) \| (.*?) \| (.*?) \|$", PAGE.partition("## Mistakes")[2].partition("\n## ")[0], re.M
    )
    assert len(rows) == 6
