"""Logs and sentences like those of public complaints that were judged wrongly once, each with what is right."""

from __future__ import annotations

import math

import numpy as np
import pytest

import loopos
from loopos.health.explain.explain import explain


def entry(loss, epoch, more=""):
    return f"{{'loss': {loss:.4f}, {more}'learning_rate': 2e-05, 'epoch': {epoch}}}\n"


HEALTHY = "".join(f"step {i} loss {3 - 0.05 * i:.3f} lr 3e-4\n" for i in range(25))


def test_an_evaluation_of_nan_beside_a_loss_that_falls():
    log = "".join(entry(1.4 - 0.02 * i, i / 10, "'grad_norm': 0.4, ") for i in range(1, 20))
    found = explain(log + "{'eval_loss': nan, 'eval_runtime': 12.2, 'epoch': 1.9}\n")
    assert found.causes == ("eval-not-finite",)
    assert all(reason in found.findings[0].says for reason in ("masked", "empty set", "half precision"))


def test_weights_that_are_nan_behind_a_loss_of_zero():
    log = "".join(entry(0.0 if i > 12 else 1.9 - 0.05 * i, i / 10) for i in range(1, 24))
    found = explain(log + "{'eval_loss': nan, 'epoch': 2.3}\n")
    assert found.causes == ("loss-filtered", "weight-not-finite")
    assert [each.confidence for each in found.findings] == ["certain"] * 2
    assert "since about line 13" in found.findings[1].says  # epoch 1.3


def test_a_set_that_is_learned_by_heart():
    held = [4 - 0.3 * i if i < 5 else 2.8 + 0.25 * (i - 5) for i in range(13)]
    log = "".join(f"step {i * 250}: train loss {4 - 0.3 * i:.4f}, val loss {held[i]:.4f}\n" for i in range(13))
    found = explain(log)
    assert found.causes == ("overfitting",)
    assert "rises since step 1250, from 2.8, its best, to 4.55 at step 3000" in found.findings[0].says


def test_the_verdict_on_a_run_that_learns_its_text_by_heart(tmp_path):
    rng = np.random.default_rng(0)
    texts = ["".join(rng.choice(list("abcdefgh "), 600)) for _ in range(2)]
    config = loopos.ModelConfig(vocab_size=256, context_length=16, n_layer=1, n_head=2, d_model=32)
    settings = {"eval_every": 50, "max_steps": 400, "learning_rate": 3e-3, "batch_size": 16, "progress": False}
    run = loopos.train(config, texts[0], eval_data=texts[1], output_dir=tmp_path, **settings)
    assert run.verdict.kind == "overfitting"
    assert run.verdict.says.startswith("the held-out loss rises since step 50, from 2.")
    assert explain(tmp_path).causes == ("overfitting",)


def test_a_loss_that_is_zero_for_good():
    found = explain("".join(entry(1.9 - 0.03 * i if i < 14 else 0, i / 100) for i in range(1, 30)))
    assert found.causes == ("loss-filtered", "labels-masked")
    clipped = "".join(
        entry(1.4 if i < 6 else 0, i / 100, f"'grad_norm': {0.7 if i < 6 else 1.0}, ") for i in range(1, 14)
    )
    assert explain(clipped).causes[0] == "loss-filtered"
    assert "contradicts" in explain(clipped).findings[0].says


def test_a_rate_that_is_printed_as_zero():
    lines = (f"{{'loss': {8.3 + 0.3 * math.sin(1.7 * i):.3f}, 'learning_rate': 0.0}}\n" for i in range(23))
    found = explain("".join(lines))
    assert [(each.cause, each.confidence) for each in found.findings] == [("learning-rate-zero", "certain")]


@pytest.mark.parametrize(
    "head", ["best_val_loss: inf\n", "clip=1.0 (clip gradients to stabilize)\nusing bfloat16, no overflow\n"]
)
def test_what_stands_before_a_healthy_log(head):
    found = explain(head + HEALTHY)
    assert (found.causes, found.doubts) == (("learning",), ())


def test_a_fall_that_is_not_beyond_doubt():
    losses = [4.08, 4.05, 3.62, 3.75, 3.8, 3.78, 3.69, 3.73, 3.62, 3.62]  # p = 0.0015 of all 20
    losses += [3.58, 3.46, 3.47, 3.56, 3.48, 3.62, 3.62, 3.66, 3.51, 3.62]
    log = "".join(f"step {i} loss {loss}\n" for i, loss in enumerate(losses))
    assert explain(log).causes == ("insufficient-evidence",)
