"""Case 1: "zero loss values, NaN gradient norms" (fine-tuning with masked labels).

Prompts were as long as the context, and the answer behind them was cut off. The labels of a prompt are masked (-100),
so no label was left: the mean loss is 0 / 0 = NaN, and so is every gradient. The trainer's logger replaced NaN by the
running mean, which is 0, and wrote {'loss': 0.0, 'grad_norm': nan}. The write-up answered with a "safe loss",
nan_to_num on the gradients, another precision and a lower learning rate, and called two log lines proof. The cause is
the truncation: cut the prompt from its left, keep the answer, and it trains. LoopOS says valid_tokens 0 and warns
before anything else.

Run: python case_1_masked_labels.py          (a second or two; --skip-fix keeps the truncation)
"""

from __future__ import annotations

import warnings

import numpy as np
from claims import claim, claim_learning, main, verdict

import loopos
from loopos import ops

VOCAB, CONTEXT, ANSWER, BATCH, MASKED = 16, 16, 6, 8, -100
CONFIG = loopos.ModelConfig(vocab_size=VOCAB, context_length=CONTEXT, n_layer=1, n_head=2, d_model=32)


class Dialogues:
    """A prompt of CONTEXT + 1 tokens, and an answer that counts on from its last one. Only the answer is labelled."""

    def __init__(self, keep_answer: bool):
        self.keep_answer = keep_answer

    def batch(self, step: int, micro: int) -> tuple[np.ndarray, np.ndarray]:
        prompt = np.random.default_rng([step, micro]).integers(1, VOCAB, (BATCH, CONTEXT + 1))
        steps = np.arange(1, ANSWER + 1)
        answer = (prompt[:, -1:] - 1 + steps) % (VOCAB - 1) + 1
        tokens = np.concatenate([prompt, answer], 1)
        labels = np.concatenate([np.full_like(prompt, MASKED), answer], 1)
        window = slice(-CONTEXT - 1, None) if self.keep_answer else slice(CONTEXT + 1)  # what truncation keeps
        return tokens[:, window][:, :-1], labels[:, window][:, 1:]


def naive_step(weights, ids, targets, nan_to_num=False):
    """Loss and gradients as the program had them: sums divided by the number of labels, whatever that is."""
    x = ops.embedding(ids, weights["embedding"]).reshape(-1, 32)
    logits, flat = ops.linear(x, weights["head"]), targets.reshape(-1)
    total, count = ops.cross_entropy(logits, flat, ignore_index=MASKED, reduction="sum")
    dlogits = ops.cross_entropy_backward(1.0, logits, flat, ignore_index=MASKED, reduction="sum")
    dx, dhead, _ = ops.linear_backward(dlogits, x, weights["head"], has_bias=False)
    sums = {"embedding": ops.embedding_backward(dx.reshape(*ids.shape, 32), ids, VOCAB), "head": dhead}
    dtype = dhead.dtype.type
    with np.errstate(invalid="ignore"):
        loss, grads = dtype(total) / dtype(count), {name: g / dtype(count) for name, g in sums.items()}
    if nan_to_num:
        loss, grads = np.nan_to_num(loss), {name: np.nan_to_num(g) for name, g in grads.items()}
    return float(loss), grads, logits.argmax(1)


def naive_train(dtype="float32", peak=2e-4, steps=32, **options):
    """(true losses, log lines of every 10 steps, accuracy, largest change of a weight) of the program's own loop."""
    rng = np.random.default_rng(0)
    weights = {name: rng.normal(0, 0.02, (VOCAB, 32)).astype(dtype) for name in ("embedding", "head")}
    start = {name: w.copy() for name, w in weights.items()}
    losses, log, window, hits = [], [], 0.0, []
    for step in range(1, steps + 1):
        ids, targets = Dialogues(keep_answer=False).batch(step, 0)
        loss, grads, guesses = naive_step(weights, ids, targets, **options)
        losses.append(loss)
        hits.append(guesses == np.roll(ids, -1, 1).reshape(-1))  # against the next token, which is never 0
        window += window / (1 + (step - 1) % 10) if np.isnan(loss) else loss  # the filter: the running mean instead
        norm = float(np.sqrt(sum((g.astype(np.float64) ** 2).sum() for g in grads.values())))
        rate = peak * (1 - step / 100)
        for name, w in weights.items():
            w -= rate * grads[name]  # with no gate between gradients and weights
        if step % 10 == 0:
            log.append({"loss": window / 10, "grad_norm": norm, "learning_rate": round(rate, 7), "epoch": step / 32})
            window = 0.0
    moved = max(float(np.abs(weights[name] - start[name]).max()) for name in weights)
    return losses, log, float(np.mean(hits[1:])), moved


def diagnose(data) -> tuple[list[int], list[str], bool]:
    """LoopOS's answer to the same data: valid_tokens of each step, its warnings, whether a weight moved."""
    model = loopos.Model(CONFIG)
    before = model.state_dict()
    with warnings.catch_warnings(record=True) as caught:
        warnings.simplefilter("always")
        result = loopos.train(model, data, max_steps=5, log_every=1, progress=False)
    moved = any((before[name] != view).any() for name, view in model.parameters().items())
    return [line["valid_tokens"] for line in result.history], [str(w.message) for w in caught], moved


def run(fixed: bool) -> None:
    print("It fails as described:")
    losses, log, accuracy, _ = naive_train()
    for line in log:
        claim(line["loss"] == 0.0 and np.isnan(line["grad_norm"]), f"logged: {line}")
    claim(accuracy == 0.0, f"accuracy {accuracy}")

    print("What the write-up said of it does not hold:")
    claim(np.isnan(losses).all(), f"the loss was never 0: {np.isnan(losses).sum()} of {len(losses)} are NaN")
    for dtype, peak in (("float64", 2e-4), ("float32", 2e-5)):
        nans = int(np.isnan(naive_train(dtype, peak)[0]).sum())
        claim(nans == 32, f"precision and rate are no cause: {nans} of 32 losses are NaN in {dtype} at {peak:g}")
    losses, log, _, moved = naive_train(nan_to_num=True)
    norm = log[-1]["grad_norm"]
    claim(moved == norm == 0, f"nan_to_num: loss {losses[-1]}, grad_norm {norm}, and no weight moves ({moved})")
    proof = verdict([2.2549, 2.1651])
    claim(proof == "insufficient evidence", f"its two log lines, 2.2549 and 2.1651: {proof}")

    print("Diagnosis by LoopOS:")
    valid, said, moved = diagnose(Dialogues(keep_answer=False))
    claim(valid == [0] * 5, f"valid_tokens of each step: {valid}")
    claim(len(said) == 1 and "-100" in said[0], f"it warns: {said[0] if said else 'nothing'}")
    claim(not moved, "not one bit of a weight was changed")
    cut = [int((Dialogues(keep).batch(0, 0)[1] != MASKED).sum()) for keep in (False, True)]
    claim(cut == [0, BATCH * ANSWER], f"labels left in a batch, answer cut off or kept: {cut[0]} or {cut[1]}")

    print("Repaired: the prompt is cut from its left:")
    with warnings.catch_warnings():
        warnings.simplefilter("ignore" if not fixed else "error", UserWarning)
        data = Dialogues(keep_answer=fixed)
        history = loopos.train(CONFIG, data, max_steps=150, learning_rate=3e-3, log_every=1, progress=False).history
    valid = {line["valid_tokens"] for line in history}
    claim(valid == {BATCH * ANSWER}, f"valid_tokens of all {len(history)} steps: {valid}")
    losses = [line["loss"] for line in history]
    uniform = np.log(VOCAB)
    claim(abs(losses[0] - uniform) < 0.1, f"first loss {losses[0]:.3f}, expected ln {VOCAB} = {uniform:.3f}")
    bad, norm = history[-1]["nonfinite"], history[-1]["grad_norm"]
    claim(bad == 0 and 0 < norm < 10, f"{bad} steps were refused; the last grad_norm is {norm:.3f}")
    claim_learning(losses, at_most=0.1)


if __name__ == "__main__":
    main(run, __doc__)
