"""Case 2: "no backpropagation is implemented" (a C++ transformer; its trainer said `(void)learning_rate;`).

First the trainer updated nothing; later it did, was declared complete because the loss fell, and still had no
backward for its attention and still ignored the learning rate. The write-up said that weights which never move cause
the NaN, and guarded the softmax with max(sum, 1e-20). Both are wrong: a missing update creates no NaN, and after
subtracting the maximum the sum is at least 1, so the guard is dead code. A falling loss is no proof of learning
either: here it falls from ln V to the entropy of single tokens and stays there, which says that attention is dead.
LoopOS's gradcheck names the parameters without gradient.

Run: python case_2_no_attention_backward.py          (some seconds; --skip-fix leaves backward and rate as they were)
"""

from __future__ import annotations

import numpy as np
from claims import claim, claim_learning, main, verdict

import loopos
from loopos import ops

V, T, C, BATCH = 12, 10, 24, 16
ATTENTION = ("attention.qkv", "attention.out")
FREQUENCY = 0.7 ** np.arange(V) / (0.7 ** np.arange(V)).sum()  # of the tokens
ENTROPY = float(-(FREQUENCY * np.log(FREQUENCY)).sum())  # the best a model can do without looking back


def data(step: int) -> tuple[np.ndarray, np.ndarray]:
    """Independent tokens; the target is the token before, so only attention can know it. The first has none."""
    ids = np.random.default_rng([1, step]).choice(V, size=(BATCH, T), p=FREQUENCY)
    return ids, np.concatenate([np.full((BATCH, 1), -100), ids[:, :-1]], 1)


def start(dtype: str = "float32") -> dict[str, np.ndarray]:
    rng = np.random.default_rng(0)
    shapes = {
        "tokens": (V, C),
        "positions": (T, C),
        "attention.qkv": (3 * C, C),
        "attention.out": (C, C),
        "head": (V, C),
    }
    return {name: rng.normal(0, 0.1, shape).astype(dtype) for name, shape in shapes.items()}


def loss_and_grads(weights, ids, targets, attention_backward):
    """One block, one head: embedding, causal attention around a residual, head; and its backward, in mirror order."""
    w, flat = weights, targets.reshape(-1)
    x = ops.embedding(ids, w["tokens"]) + w["positions"]
    qkv = ops.linear(x, w["attention.qkv"])
    q, k, v = (np.ascontiguousarray(part)[:, None] for part in np.split(qkv, 3, axis=2))
    y, lse = ops.attention(q, k, v, causal=True)
    h = x + ops.linear(y[:, 0], w["attention.out"])
    logits = ops.linear(h, w["head"]).reshape(-1, V)
    loss, _ = ops.cross_entropy(logits, flat)

    dlogits = ops.cross_entropy_backward(1.0, logits, flat).reshape(*ids.shape, V)
    dx, dhead, _ = ops.linear_backward(dlogits, h, w["head"], has_bias=False)
    grads = {name: np.zeros_like(w[name]) for name in ATTENTION}  # what a missing backward leaves behind
    if attention_backward:
        dy, grads["attention.out"], _ = ops.linear_backward(dx, y[:, 0], w["attention.out"], has_bias=False)
        dq, dk, dv = ops.attention_backward(dy[:, None], q, k, v, y, lse, causal=True)
        dqkv = np.concatenate([dq[:, 0], dk[:, 0], dv[:, 0]], axis=2)
        through, grads["attention.qkv"], _ = ops.linear_backward(dqkv, x, w["attention.qkv"], has_bias=False)
        dx = dx + through
    grads |= {"tokens": ops.embedding_backward(dx, ids, V), "positions": dx.sum(0), "head": dhead}
    return float(loss), {name: grads[name] for name in w}


def train(learning_rate, *, attention_backward, use_rate, steps=400, update=True):
    """Losses by step and the final weights. Without ``use_rate`` the argument is ignored for a built-in 0.01."""
    weights, losses = start(), []
    optimizer = loopos.optim.AdamW(weights, learning_rate if use_rate else 0.01, weight_decay=0.0)
    for step in range(steps):
        loss, grads = loss_and_grads(weights, *data(step), attention_backward)
        losses.append(loss)
        if update:
            optimizer.step(grads)
    return losses, weights


def unmoved(weights) -> list[str]:
    return [name for name, before in start().items() if (before == weights[name]).all()]


def diagnose(attention_backward: bool, use_rate: bool) -> tuple[list[str], bool]:
    """(parameters whose gradient fails LoopOS's gradcheck, whether the learning rate changes a single bit)."""
    weights, (ids, targets) = start("float64"), data(0)

    def function(*arrays):
        loss, grads = loss_and_grads(dict(zip(weights, arrays, strict=True)), ids[:2], targets[:2], attention_backward)
        return loss, list(grads.values())

    report = loopos.gradcheck(function, list(weights.values()), raise_exception=False)
    failed = [name for name, result in zip(weights, report.results, strict=True) if not result.passed]
    options = {"attention_backward": attention_backward, "use_rate": use_rate, "steps": 3}
    low, high = (train(lr, **options)[1] for lr in (1e-4, 1e-1))
    return failed, any((low[name] != high[name]).any() for name in weights)


def run(fixed: bool) -> None:
    print("It fails as described:")
    losses, weights = train(0.01, attention_backward=False, use_rate=False)
    last = float(np.mean(losses[-20:]))
    claim(last < 0.9 * losses[0], f"the loss falls from {losses[0]:.3f} (ln {V} = {np.log(V):.3f}) to {last:.3f}")
    claim(verdict(losses) == "learning", f"a trend test of the loss alone says: {verdict(losses)}")
    claim(unmoved(weights) == list(ATTENTION), f"after {len(losses)} updates not one bit changed in {unmoved(weights)}")
    claim(abs(last - ENTROPY) < 0.05, f"it ends at the entropy of single tokens, {ENTROPY:.3f}: nothing before is seen")

    print("What the write-up said of the NaN does not hold:")
    frozen, weights = train(0.01, attention_backward=True, use_rate=True, steps=50, update=False)
    low, high = min(frozen), max(frozen)
    claim(np.isfinite(frozen).all(), f"without any update {len(frozen)} losses are finite, {low:.3f} to {high:.3f}")
    logits = np.random.default_rng(0).uniform(-500, 500, (1000, 4817)).astype(np.float32)
    sums = np.exp(logits - logits.max(1, keepdims=True)).sum(1)
    fired = int((sums < 1e-20).sum())
    claim(
        sums.min() >= 1 and fired == 0,
        f"logits to +-500: least softmax sum {sums.min():.3f}, its guard fires {fired} x",
    )
    exact = ops.cross_entropy(logits, logits.argmin(1))[0]
    with np.errstate(under="ignore"):
        floored = -np.log(np.maximum(ops.softmax(logits).min(1), np.float32(1e-20))).mean()
    claim(floored < 46.06 < exact, f"their loss is {exact:.1f}; with probabilities floored at 1e-20 {floored:.2f}")
    with np.errstate(invalid="ignore"):
        fully_masked = np.full(4, -np.inf, np.float32)
        born = fully_masked - fully_masked.max()
    claim(np.isnan(born).all(), f"a row of -inf minus its maximum is {born[0]}: this is where such a softmax makes NaN")
    before = loopos.guard_counts()["softmax"]
    zeros, fired = ops.softmax(fully_masked), loopos.guard_counts()["softmax"] - before
    claim(not zeros.any() and fired == 1, f"LoopOS gives {zeros} for that row and counts it: {fired} guard fired")

    print("Diagnosis with LoopOS:")
    failed, live = diagnose(attention_backward=False, use_rate=False)
    claim(set(ATTENTION) < set(failed), f"gradcheck fails for {failed}: the attention branch passes nothing back")
    claim(not live, "learning rates 0.0001 and 0.1 give the same bits: the rate is not used")

    print("Repaired: the backward of attention, and the rate that was asked for:")
    losses, weights = train(0.01, attention_backward=fixed, use_rate=fixed)
    still = unmoved(weights)
    claim(still == [], f"{len(still)} of {len(weights)} parameters did not move: {still}")
    failed, live = diagnose(attention_backward=fixed, use_rate=fixed)
    claim(failed == [] and live, f"gradcheck fails for {failed}; another learning rate gives other bits: {live}")
    claim_learning(losses, at_most=0.1)


if __name__ == "__main__":
    main(run, __doc__)
