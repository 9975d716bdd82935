"""The doctor and runs with a teacher, preferences or classes: what is sound passes, each planted fault is named."""

from __future__ import annotations

import numpy as np
import pytest

import loopos
from loopos.health.doctor import check_task

PAIRS = [{"prompt": f"q{i}:", "chosen": "yes, sir", "rejected": "no"} for i in range(16)]
TEXTS = [{"text": f"{'a' if i % 2 else 'b'} {i}", "label": "yes" if i % 2 else "no"} for i in range(40)]


def doctor(model, data, **settings):
    """(report, its checks by name); the model has its bits and its head afterwards."""
    before, shape = {name: view.copy() for name, view in model.parameters().items()}, model.config
    report = loopos.doctor(model, data, **{"learning_rate": 1e-3, "batch_size": 4, "max_steps": 50} | settings)
    assert (model.adapter, model.config) == (None, shape)
    for name, view in model.parameters().items():
        np.testing.assert_array_equal(view, before[name])
    return report, {check.name: check for check in report.checks}


@pytest.fixture
def model(config):
    return loopos.Model(config(context_length=32), seed=1)


def test_preferences_begin_at_ln_2(model):
    report, checks = doctor(model, PAIRS, task="dpo", adapter=loopos.LoRA(rank=2))
    assert not report.problems, list(map(str, report.problems))
    assert checks["initial loss"].measured == "0.693147 nats, the mean margin of a pair is 0"
    assert checks["answers"].measured.startswith("0 of ")
    assert "frozen tensors keep their bits" in checks["base"].measured
    assert "8 matrices A of an adapter will have one" in checks["gradient reaches"].measured
    assert checks["train and evaluation"].measured.startswith("training 0.6931472, evaluation 0.6931472")


def test_a_reference_that_is_another_model_is_remarkable(model, config):
    other = loopos.Model(config(context_length=32), seed=2)
    _, checks = doctor(model, PAIRS, task="dpo", teacher=other)
    assert checks["initial loss"].verdict == "warn"
    assert "the reference answers otherwise than the model that training begins with" in checks["initial loss"].advice
    assert checks["teacher"].verdict == "ok"
    _, checks = doctor(model, PAIRS, task="dpo", teacher=loopos.Model(config(context_length=32), seed=1))
    assert checks["initial loss"].verdict == "ok"


def test_a_reference_that_is_not_the_base_is_a_fault(model, monkeypatch):
    """Planted: the reference answers with a weight that the model does not have."""
    honest = check_task.Task.compute

    def spoiled(self, batch, copied=True):
        weight, enabled = self.model.parameters()["final_norm.weight"], self.model._core.adapter_enabled
        reference = self.objective._reference

        class Wrong:
            def losses(self, ids, targets):
                weight[...] *= 2
                try:
                    return reference._model._core.losses(ids, targets)
                finally:
                    weight[...] /= 2

        assert enabled
        monkeypatch.setattr(reference, "core", Wrong())
        return honest(self, batch, copied)

    monkeypatch.setattr(check_task.Task, "compute", spoiled)
    report, checks = doctor(model, PAIRS, task="dpo", adapter=loopos.LoRA(rank=2))
    assert not report.ok
    assert "the adapter adds nothing yet, and still the reference answers otherwise" in checks["initial loss"].advice


def test_pairs_with_one_answer_twice_are_named(model):
    pairs = [pair | {"rejected": pair["chosen"]} if i % 2 else pair for i, pair in enumerate(PAIRS)]
    _, checks = doctor(model, pairs, task="dpo", adapter=loopos.LoRA(rank=2))
    assert checks["answers"].verdict == "warn"
    assert "such a pair has a loss of ln 2 whatever is learned" in checks["answers"].advice
    pairs = [pair | {"rejected": pair["chosen"]} for pair in PAIRS]
    _, checks = doctor(model, pairs, task="dpo", adapter=loopos.LoRA(rank=2))
    assert checks["answers"].verdict == "fail"


def test_a_student_that_is_its_teacher_learns_nothing(model, text):
    """Self-distillation with every B at 0: loss and gradients are 0 and stay so."""
    report, checks = doctor(model, text, teacher="self", adapter=loopos.LoRA(rank=2))
    assert report.ok
    assert checks["initial loss"].measured == "kl 0 between student and teacher"
    assert checks["initial loss"].verdict == "warn"
    assert "no update moves anything" in checks["initial loss"].advice
    assert checks["gradient reaches"].verdict == "warn"
    assert checks["updates"].verdict == checks["growth backward"].verdict == "skipped"
    how = loopos.Distill(cross_entropy=1.0)
    report, checks = doctor(model, text, teacher="self", distill=how, adapter=loopos.LoRA(rank=2))
    assert not report.problems, list(map(str, report.problems))
    assert checks["updates"].verdict == "ok"


def test_a_student_that_begins_astray_is_told(model, text):
    for view in model.parameters().values():
        view *= 6  # branches that are felt
    spec = loopos.Modulated(rank=2, gate="document")
    report, checks = doctor(model, text, teacher="self", distill="normalized_mse", adapter=spec)
    assert not report.ok
    assert checks["gate"].verdict == "fail"
    assert checks["initial loss"].verdict == "warn"
    assert "a gate that is not 1 at the start" in checks["initial loss"].advice


def test_another_teacher_is_asked_what_it_knows(model, text, config):
    shape = config(context_length=32)
    taught = loopos.train(shape, text, max_steps=60, learning_rate=1e-2, progress=False).model
    report, checks = doctor(model, text, teacher=taught)
    assert not report.problems, list(map(str, report.problems))
    assert "a target costs the teacher" in checks["initial loss"].measured
    assert checks["teacher"].measured == "28 tensors keep their bits"
    ignorant = loopos.Model(shape, seed=5)
    ignorant.parameters()["final_norm.weight"][...] = 60
    _, checks = doctor(model, text, teacher=ignorant)
    assert "the teacher knows nothing of these data" in checks["initial loss"].advice


def test_a_teacher_that_moves_is_named(model, text, config, monkeypatch):
    teacher, honest = loopos.Model(config(context_length=32), seed=2), check_task.Task.steps

    def stepping(self, *given, **changed):
        honest(self, *given, **changed)
        teacher.parameters()["tok_embed.weight"][3, 2] += 1

    monkeypatch.setattr(check_task.Task, "steps", stepping)
    report, checks = doctor(model, text, teacher=teacher)
    assert not report.ok
    assert checks["teacher"].measured == "1 of 28 tensors move: tok_embed.weight"


def test_a_penalty_that_is_most_of_the_loss_is_told(model, text):
    _, checks = doctor(model, text, regularization_lambda=10.0)
    assert checks["regularization"].verdict == "warn"
    assert "a loss that falls tells of the weights that shrink" in checks["regularization"].advice
    _, checks = doctor(model, text, regularization_lambda=1e-6)
    assert checks["regularization"].verdict == "ok"
    _, checks = doctor(model, text)
    assert "regularization" not in checks


def test_a_new_head_begins_at_ln_of_its_classes(model):
    report, checks = doctor(model, TEXTS, task="classify")
    assert not report.problems, list(map(str, report.problems))
    assert "expected ln 2 + var/2 = 0.6931" in str(checks["initial loss"])
    assert "the head gives scores of 2 classes" in checks["model"].measured
    assert "two ways" in checks
    assert "shift" not in checks
    rows = [row | {"label": "yes" if i else "no"} for i, row in enumerate(TEXTS)]
    _, checks = doctor(model, rows, task="classify")
    assert checks["classes"].verdict == "warn"
    assert "saying always the same is right as often" in checks["classes"].advice


def test_a_head_with_wide_weights_is_too_wide(config):
    model = loopos.Model(config(), seed=1).with_labels(("no", "yes"))
    model.parameters()["score.weight"][...] *= 400
    _, checks = doctor(model, TEXTS, task="classify")
    assert checks["initial loss"].verdict in ("warn", "fail")


def test_what_cannot_be_asked_is_refused(model, text):
    with pytest.raises(TypeError, match="teacher must be 'self' or a Model"):
        loopos.doctor(model, text, teacher=3)
    with pytest.raises(ValueError, match="teacher='self' is the model without its adapter, and it has none"):
        loopos.doctor(model, text, teacher="self")

    class Foreign:
        def parameters(self):
            return {"w": np.zeros(3)}

        def loss(self, ids, targets):
            return 0.0

        loss_and_grads = loss

    with pytest.raises(TypeError, match="are for a loopos"):
        loopos.doctor(Foreign(), text, task="dpo")


def test_a_classifier_with_an_adapter_is_examined_and_left_as_it_was(model):
    report = loopos.doctor(model, TEXTS, task="classify", adapter=loopos.LoRA(rank=2), quick=True)
    assert report.ok, report
    assert model.config.labels == ()
    assert model.adapter is None
