"""Logs of runs in which nothing is wrong, as many trainers write them: explain raises no alarm for any.

They are made here, after the forms in which these programs print; noise, evaluations, restarts of the schedule and
early stopping are those of sound runs."""

from __future__ import annotations

import json
import math
import random

import pytest

from loopos.health.explain.explain import explain

CALM = {"learning", "insufficient-evidence"}


def fall(count, seed=0, top=4.0, floor=2.0, noise=0.04):
    rng = random.Random(seed)
    return [floor + (top - floor) * math.exp(-4 * i / count) + rng.gauss(0, noise) for i in range(count)]


def cosine(i, period, peak=3e-4):
    return peak * (1 + math.cos(math.pi * (i % period) / period)) / 2


def nanogpt():
    lines = ["tokens per iteration will be: 16,384", "number of parameters: 10.65M", "using fused AdamW: True"]
    for i, loss in enumerate(fall(60)):
        if i % 10 == 0:
            lines.append(f"step {i * 10}: train loss {loss:.4f}, val loss {loss + 0.05:.4f}")
            lines += ["saving checkpoint to out"] if i else []
        lines.append(f"iter {i * 10}: loss {loss:.4f}, time 41.22ms, mfu 12.31%")
    return lines


def trainer(evals=3):
    lines = []
    for i, loss in enumerate(fall(36, 1)):
        values = {
            "loss": round(loss, 4),
            "grad_norm": 0.9,
            "learning_rate": 5e-5 * (36 - i) / 36,
            "epoch": (i + 1) / 12,
        }
        lines.append(str(values))
        if evals and (i + 1) % (36 // evals) == 0:
            lines.append(str({"eval_loss": round(loss + 0.1, 4), "eval_runtime": 4.1, "epoch": (i + 1) / 12}))
    lines.append("{'train_runtime': 512.1, 'train_samples_per_second': 12.5, 'train_loss': 2.61, 'epoch': 3.0}")
    return lines


def trainer_to_zero_rate():
    """A linear schedule is printed as 0.0 at its end, and after a warm-up that begins there."""
    rates = [0.0, 1e-5, 2e-5, *(2e-5 * (27 - i) / 27 for i in range(28))]
    return [
        str({"loss": round(x, 4), "learning_rate": r, "epoch": 0.1}) for x, r in zip(fall(31, 2), rates, strict=True)
    ]


def llamafactory():
    """null in every line: that is a number which was not logged."""
    lines = []
    for i, loss in enumerate(fall(30, 3)):
        entry = {"current_steps": i * 10, "total_steps": 300, "loss": loss, "eval_loss": None, "predict_loss": None}
        lines.append(json.dumps(entry | {"reward": None, "lr": cosine(i, 30), "epoch": i / 10, "percentage": i / 3}))
    return lines


def lightning():
    lines = ["Sanity Checking DataLoader 0: 100%|####| 2/2 [00:00<00:00, 9.12it/s]"]
    for i, loss in enumerate(fall(20, 4)):
        held = f"val_loss={2.05 + 2 * math.exp(-i / 4):.3f}"
        lines.append(f"\rEpoch {i}: 100%|####| 50/50 [00:10<00:00, 41it/s, v_num=3, train_loss={loss:.3f}, {held}]")
    lines.append("`Trainer.fit` stopped: `max_epochs=20` reached.")
    return lines


def keras():
    lines, best = [], math.inf
    for i, loss in enumerate(fall(25, 5)):
        held = loss + 0.1
        lines.append(f"Epoch {i + 1}/25")
        lines.append(f"100/100 - 3s - accuracy: 0.41 - loss: {loss:.4f} - val_accuracy: 0.4 - val_loss: {held:.4f}")
        if held < best:
            lines.append(f"Epoch {i + 1}: val_loss improved from {best:.5f} to {held:.5f}, saving model to best.keras")
            best = held
        else:
            lines.append(f"Epoch {i + 1}: val_loss did not improve from {best:.5f}")
    return lines


def early_stopping():
    lines = ["best_val_loss: inf", "patience: 5, min_delta: 0.0", "best loss so far: inf"]
    best = math.inf
    for i, loss in enumerate(fall(30, 6)):
        lines.append(f"Epoch {i}: train loss: {loss:.4f} val loss: {loss + 0.2:.4f} best_val_loss: {best:.4f}")
        if loss + 0.2 < best:
            lines.append(f"Validation loss decreased ({best:.6f} --> {loss + 0.2:.6f}).  Saving model ...")
            best = loss + 0.2
        else:
            lines.append("EarlyStopping counter: 1 out of 5")
    return lines


def megatron():
    return [
        f" iteration {i * 100:8d}/ 5000 | consumed samples: {i * 6400} | elapsed time per iteration (ms): 512.1 | "
        f"learning rate: {cosine(i, 40):.6E} | global batch size: 64 | lm loss: {loss:.6E} | loss scale: 1.0 | "
        "grad norm: 0.812 | number of skipped iterations:   0 | number of nan iterations:   0 |"
        for i, loss in enumerate(fall(40, 7))
    ]


def fp16_scaler():
    return [f"step {i} loss {loss:.4f} loss scale {65536 >> min(i, 3)}" for i, loss in enumerate(fall(30, 8))]


def fairseq():
    return [
        json.dumps({"epoch": i, "train_loss": f"{loss:.3f}", "train_ppl": f"{2**loss:.2f}", "train_gnorm": "0.91"})
        for i, loss in enumerate(fall(25, 9))
    ]


def restarts():
    """Warm restarts: the loss rises with the rate, and falls again."""
    rng = random.Random(10)
    lines = []
    for i in range(100):
        rate = cosine(i, 40, 1e-3)
        loss = 1.5 + 2 * math.exp(-i / 30) + 300 * rate + rng.gauss(0, 0.02)
        lines.append(f"step {i} loss {loss:.4f} lr {rate:.6f} grad_norm 0.7")
    return lines


def warmup():
    """A pretrained model gets worse at first, as its rate rises."""
    rng = random.Random(11)
    lines = []
    for i in range(60):
        rate = 2e-4 * min(1, (i + 1) / 15)
        loss = 1.6 + (0.03 * i if i < 15 else 0.45 * math.exp(-(i - 15) / 10)) - 0.1 * (i > 20) + rng.gauss(0, 0.02)
        lines.append(str({"loss": round(loss, 4), "learning_rate": rate, "epoch": i / 60}))
    return lines


def noisy():
    rng = random.Random(12)
    return [f"step {i} | loss {3 * math.exp(-i / 150) + rng.gauss(0, 0.3) + 1:.3f} | norm 0.5" for i in range(200)]


def wobbling_evaluations():
    rng = random.Random(13)
    lines = []
    for i, loss in enumerate(fall(120, 13)):
        lines.append(f"step {i} loss {loss:.4f}")
        if i % 6 == 5:
            lines.append(f"step {i} eval_loss {2.1 + 2 * math.exp(-i / 20) + rng.gauss(0, 0.02):.4f}")
    return lines


def one_evaluation():
    return [*trainer(evals=0), "{'eval_loss': 2.31, 'eval_runtime': 3.3, 'epoch': 3.0}"]


def two_runs_of_few_lines():
    return ["step 1 loss 4.17", "step 2 loss 4.02", "step 3 loss 3.95"]


def memorised():
    """A small set that is meant to be learned: the loss gets to what is printed as 0."""
    losses = [2 * 0.6**i for i in range(40)]
    return [
        str({"loss": round(loss, 4), "grad_norm": max(round(loss, 4), 1e-5), "epoch": i})
        for i, loss in enumerate(losses)
    ]


def policy():
    """GRPO: the loss is near 0 from the start, and of either sign."""
    rng = random.Random(14)
    return [
        str({"loss": round(rng.gauss(0, 0.003), 4), "grad_norm": 0.3, "reward": 0.4, "epoch": i / 60})
        for i in range(12)
    ]


def csv():
    return ["epoch,train_loss,val_loss,lr", *(f"{i},{x:.5f},{x + 0.1:.5f},0.001" for i, x in enumerate(fall(30, 15)))]


def tables_with_nan():
    """What a data frame has where a row is of another kind."""
    rows = [f"{i},{x:.5f},{x + 0.1 if i % 5 == 4 else math.nan:.5f}" for i, x in enumerate(fall(32, 20))]
    return ["step,loss,eval_loss", *rows]


def rows_of_two_kinds():
    lines = ["step,train_loss,val_loss"]
    for i, loss in enumerate(fall(30, 21)):
        lines += [f"{i},{loss:.5f},nan"] + ([f"{i},nan,{loss + 0.1:.5f}"] if i % 3 == 2 else [])
    return lines


def markdown():
    return ["| step | loss |", "|---|---|", *(f"| {i} | {loss:.3f} |" for i, loss in enumerate(fall(15, 16)))]


def rounded_rate():
    return [f"Epoch {i} loss: {loss:.4f} lr: 0.0000" for i, loss in enumerate(fall(30, 17))]


def configured():
    lines = ["model: gpt2", "bf16: true", "gradient_clipping: 1.0  # stabilizes the training, no nan", "eps: 1e-8"]
    lines += [
        "skip_nan_batches: false",
        "clamp to [0, 1] and resize the image",
        "using bfloat16, no overflow",
        "amp=off",
    ]
    lines += ["reduce the batch size if memory is short", "quantized base model, compute in float16", "max_steps: inf"]
    return [*lines, *nanogpt()]


def own():
    return [
        json.dumps(
            {
                "step": i + 1,
                "loss": x,
                "grad_norm": 0.8,
                "learning_rate": cosine(i, 40),
                "valid_tokens": 64,
                "nonfinite": 0,
            }
            | ({"eval_loss": x + 0.05} if i % 10 == 9 else {})
        )
        for i, x in enumerate(fall(40, 18))
    ]


def llm_c():
    lines = ["| max_sequence_length T   | 1024", "| vocab_size V            | 50257", "val loss 4.0521"]
    lines += [
        f"step {i + 1:4d}/40 | loss {x:.6f} | norm 1.51 | lr 3.00e-04 | 88.2 ms" for i, x in enumerate(fall(40, 19))
    ]
    return [*lines, "val loss 2.1522"]


LOGS = [nanogpt, trainer, trainer_to_zero_rate, llamafactory, lightning, keras, early_stopping, megatron, fp16_scaler]
LOGS += [
    fairseq,
    restarts,
    warmup,
    noisy,
    wobbling_evaluations,
    one_evaluation,
    two_runs_of_few_lines,
    memorised,
    policy,
]
LOGS += [csv, tables_with_nan, rows_of_two_kinds, markdown, rounded_rate, configured, own, llm_c]


@pytest.mark.parametrize("make", LOGS, ids=lambda make: make.__name__)
def test_a_healthy_log_raises_no_alarm(make):
    found = explain("\n".join(make()) + "\n")
    assert set(found.causes) <= CALM | ({"negative-loss"} if make is policy else set())
    assert found.doubts == ()


@pytest.mark.parametrize("make", [nanogpt, trainer, llamafactory, megatron, own, csv], ids=lambda make: make.__name__)
def test_nor_does_its_beginning(make):
    """A log is looked at while it is written."""
    lines = make()
    for count in range(1, len(lines), 3):
        found = explain("\n".join(lines[:count]) + "\n")
        assert set(found.causes) <= CALM
        assert found.doubts == ()
