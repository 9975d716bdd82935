"""Runs whose reference is the model without its adapter are replayed and compared like any other: one model is both.
Of another Model nothing is kept, and that is said."""

from __future__ import annotations

import pytest

import loopos
from loopos.health.replay.counterfactuals import counterfactuals
from loopos.health.replay.diff import diff
from loopos.health.replay.rerun import Rerun
from loopos.run.checkpoint import load_checkpoint

CONFIG = loopos.ModelConfig(vocab_size=256, context_length=16, n_layer=2, n_head=2, d_model=8, dropout=0.1)
TEXT = b"she sells sea shells by the sea shore, and so on. " * 8
PAIRS = [{"prompt": f"q{i}:", "chosen": "yes, sir", "rejected": "no"} for i in range(12)]
SETTINGS = {"max_steps": 8, "batch_size": 3, "grad_accum": 2, "save_every": 3, "progress": False, "learning_rate": 1e-2}
TASKS = {
    "kl": (TEXT, {"teacher": "self", "regularization_lambda": 0.01}),
    "hidden": (TEXT, {"teacher": "self", "distill": "normalized_mse"}),
    "layers": (TEXT, {"teacher": "self", "distill": loopos.Distill("cosine", layers="all")}),
    "dpo": (PAIRS, {"task": "dpo"}),
}
NAME = "blocks.1.attn.o_proj.lora_B"


class Write:
    """Adds to one weight after ``step`` updates."""

    def __init__(self, step, value):
        self.step, self.value = step, value

    def on_step_end(self, info):
        if info["step"] == self.step:
            info["model"].parameters()[NAME][3, 1] += self.value


def adapted(base):
    model = loopos.Model.from_pretrained(base)
    model.add_adapter(loopos.LoRA(rank=2, targets="attention"), seed=3)
    for view in model.adapter_parameters().values():  # away from the base, so that there is something to learn
        view += 0.5
    return model


@pytest.fixture(scope="module")
def base(tmp_path_factory):
    folder = tmp_path_factory.mktemp("base")
    loopos.Model(CONFIG, seed=1).save_pretrained(folder)
    return folder


@pytest.mark.parametrize("task", TASKS)
def test_a_refused_update_is_reproduced(task, base, tmp_path):
    data, settings = TASKS[task]
    with pytest.raises(loopos.NonFiniteError) as caught:
        loopos.train(adapted(base), data, output_dir=tmp_path, callbacks=[Write(4, 3e38)], **SETTINGS, **settings)
    for threads in (1, 3):
        found = loopos.replay(caught.value.bundle, threads=threads)
        assert found.reproduced, found
        assert (found.step, found.birth) == (5, caught.value.birth)
    tried = counterfactuals(caught.value.bundle)
    assert {trial.changed for trial in tried.trials} >= {"as it was", "in float64"}


@pytest.mark.parametrize("task", TASKS)
def test_every_update_is_the_one_of_the_run_and_what_parts_two_is_named(task, base, tmp_path):
    data, settings = TASKS[task]
    for name, callbacks in (("a", []), ("b", [Write(5, 0.25)])):
        loopos.train(adapted(base), data, output_dir=tmp_path / name, callbacks=callbacks, **SETTINGS, **settings)
    found = diff(tmp_path / "a", tmp_path / "b", data=data)
    assert found.step == 6
    assert found.checkpoint == 3
    said = "\n".join(found.causes)
    assert "step 6 of A, done again here from its checkpoint, gives the bits that it recorded" in said
    assert "step 6 of B, done again here from its checkpoint, does not give the bits that it recorded" in said
    rerun, twin = (Rerun(load_checkpoint(tmp_path / name / "step-00000006"), data) for name in "ab")
    assert rerun.advance().loss != twin.advance().loss


def test_another_model_as_teacher_is_refused_in_a_sentence(base, tmp_path):
    teacher = loopos.Model(CONFIG, seed=5)
    said = "its teacher or reference is another Model, whose weights are in no file of the run"
    for task in ("kl", "dpo"):
        data, settings = TASKS[task]
        settings = settings | {"teacher": teacher}
        loopos.train(adapted(base), data, output_dir=tmp_path / task, **SETTINGS, **settings)
        with pytest.raises(ValueError, match=f"diff: the run of .*{said}"):
            Rerun(load_checkpoint(tmp_path / task), data)
        settings |= {"output_dir": tmp_path / f"{task}-broken", "callbacks": [Write(4, 3e38)]}
        with pytest.raises(loopos.NonFiniteError, match=f"No bundle is written: {said}"):
            loopos.train(adapted(base), data, **SETTINGS, **settings)
