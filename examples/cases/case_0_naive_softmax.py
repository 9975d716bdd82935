"""Case 0: "training loss becomes NaN at the end of the first epoch" (image captioning, comparison of optimizers).

The program computed softmax as exp(x) / (sum(exp(x)) + eps). The last batch of the epoch, a partial one, held a
picture whose pixels had not been normalised; its logits reached 192.8. The write-up blamed bfloat16, the learning
rate and eps, and clamped logits to [-100, 100]. None of these is the cause: float32 exp overflows above 88.72, so
exp(192.8) is inf, and inf / inf is NaN. bfloat16 has the same range, no eps changes an infinite sum, and exp(100) is
inf as well. The cause is the formula. With the row's maximum subtracted (LoopOS's fused cross-entropy) the same
logits train, unclamped.

Run: python case_0_naive_softmax.py          (a second or two; --skip-fix keeps the naive formula)
"""

from __future__ import annotations

import numpy as np
from claims import claim, claim_learning, main

import loopos
from loopos import ops
from loopos.health.stages import Examination, examine

CLASSES, WIDTH, PICTURES, BATCH = 10, 16, 100, 8  # 13 batches an epoch, the last one of 4 pictures
LARGEST = np.float32(192.8)  # the logit of the write-up


def data() -> tuple[np.ndarray, np.ndarray, np.ndarray]:
    """Features, labels and an initial head; the last picture is so bright that its largest logit is 192.8."""
    rng = np.random.default_rng(0)
    features = rng.normal(size=(PICTURES, WIDTH)).astype(np.float32)
    labels = (features @ rng.normal(size=(WIDTH, CLASSES))).argmax(1)
    head = rng.normal(size=(CLASSES, WIDTH)).astype(np.float32)
    last = np.flatnonzero((features @ head.T).argmax(1) == labels)[-1]  # one whose label is its largest logit
    features[[last, -1]], labels[[last, -1]] = features[[-1, last]], labels[[-1, last]]
    features[-1] *= LARGEST / (head @ features[-1]).max()
    return features, labels, head


def naive(logits, labels, eps, clamp=None):
    """(loss, gradient of the logits) as the program had it, by the chain rule, in the dtype of the logits."""
    x = logits if clamp is None else np.clip(logits, -clamp, clamp)
    chosen = np.eye(CLASSES, dtype=x.dtype)[labels]
    with np.errstate(all="ignore"):
        e = np.exp(x)
        total = e.sum(1, keepdims=True) + x.dtype.type(eps)
        p = e / total
        of_label = p[np.arange(len(labels)), labels][:, None]
        loss = -np.log(of_label).mean()
        dp = -chosen / (of_label * len(labels))
        dlogits = (dp / total - (dp * e / total**2).sum(1, keepdims=True)) * e
    if clamp is not None:
        dlogits[np.abs(logits) > clamp] = 0  # all that a clamp passes back outside its range
    return loss, dlogits


def fused(logits, labels):
    """The same loss with the row's maximum subtracted."""
    loss, _ = ops.cross_entropy(logits, labels)
    return loss, ops.cross_entropy_backward(1.0, logits, labels)


def train(loss_of, lr=1e-3, batch=BATCH, epochs=1):
    """Adam on the head: losses by step, and the birth for which LoopOS refused the last step's gradient, or None."""
    features, labels, head = data()
    optimizer, losses = loopos.optim.Adam({"head": head}, lr), []
    for _ in range(epochs):
        for first in range(0, PICTURES, batch):
            x, y = features[first : first + batch], labels[first : first + batch]
            loss, dlogits = loss_of(ops.linear(x, head), y)
            losses.append(float(loss))
            try:
                optimizer.step({"head": ops.linear_backward(dlogits, x, head)[1]})
            except loopos.NonFiniteError as error:
                return losses, error.birth
    return losses, None


def diagnose() -> Examination:
    """What LoopOS says of the naive formula on the last batch: its optimizer refuses the gradient and names that; the
    formula itself is outside LoopOS, so its stages are handed over."""
    features, _, head = data()
    logits = ops.linear(features[-4:], head)
    with np.errstate(all="ignore"):
        e = np.exp(logits)
        stages = {"logits": logits, "exp": e, "sum": e.sum(1, keepdims=True)}
        stages["quotient"] = e / stages["sum"]
    made = {"exp": ("exp", "logits"), "sum": ("sum", "exp"), "quotient": ("divide", "exp", "sum")}
    return examine(stages, made)


def run(fixed: bool) -> None:
    features, labels, head = data()
    logits = ops.linear(features, head)
    top = float(logits.max())
    print("It fails as described, in float32 and without mixed precision:")
    losses, birth = train(lambda x, y: naive(x, y, eps=1e-5))
    steps = len(losses)
    claim(steps == 13 and np.isnan(losses[-1]), f"loss {losses[-1]} at step {steps} of 13, the partial batch")
    claim(np.isfinite(losses[:-1]).all(), f"the 12 losses before are finite, the last of them {losses[-2]:.3f}")

    print("What the write-up changed does not matter:")
    for lr, batch in ((3e-4, 8), (1e-4, 8), (1e-4, 4)):
        steps = -(-PICTURES // batch)
        losses, _ = train(lambda x, y: naive(x, y, eps=1e-8), lr, batch)
        last = len(losses) == steps and np.isnan(losses[-1])
        claim(last, f"eps 1e-8, rate {lr:g}, batch {batch}: loss {losses[-1]} at step {len(losses)} of {steps}")
    bfloat16_max = float(np.uint32(0x7F7F0000).view(np.float32))
    limits = np.log(bfloat16_max), np.log(float(np.finfo(np.float32).max))
    claim(limits[1] - limits[0] < 0.01, f"exp overflows above {limits[0]:.2f} in bfloat16, {limits[1]:.2f} in float32")
    with np.errstate(over="ignore"):
        clamped = np.exp(np.float32(100))
    claim(np.isinf(clamped), f"exp of a logit clamped to 100 is {clamped}")
    losses, _ = train(lambda x, y: naive(x, y, eps=1e-8, clamp=100))
    claim(np.isnan(losses[-1]), f"clamped to [-100, 100]: loss {losses[-1]} at step {len(losses)} of 13 all the same")
    one = np.float32(1)
    claim(one + np.float32(1e-8) == one, f"in float32 1 + 1e-8 is {one + np.float32(1e-8)}: that eps is not there")
    flat = np.full((1, 8), 3, np.float32)
    gains = [float(ops.layer_norm(flat, eps=eps)[2][0]) for eps in (1e-5, 1e-8)]
    claim(gains[1] > 30 * gains[0], f"in a norm eps 1e-8 lets a gain of {gains[1]:.0f} through, 1e-5 {gains[0]:.0f}")

    print("Diagnosis:")
    claim(birth is not None and birth.tensor == "head", f"LoopOS's Adam refused the step: {birth}")
    born = diagnose().birth
    claim(born is not None and born.index[0] == 3, f"the formula before it: {born}")
    claim(born.cause_class == "exp overflow", f"its advice is to {born.advice}")
    wide, _ = naive(logits.astype(np.float64), labels, eps=0)
    exact = float(fused(logits.astype(np.float64), labels)[0])
    claim(abs(wide - exact) < 1e-12 * exact, f"the same formula and data in float64 give {wide:.6f}: not the data")
    pair = ops.log_softmax, lambda dy, x: ops.log_softmax_backward(dy, ops.log_softmax(x))
    report = loopos.gradcheck(pair, logits[-4:].astype(np.float64), raise_exception=False)
    claim(bool(report), f"LoopOS's backward at logits of {top:.1f}: relative error {report.max_error:.0e}")

    print("Repaired: the row's maximum subtracted, no clamp, the first learning rate and eps:")
    losses, birth = train(fused if fixed else lambda x, y: naive(x, y, eps=1e-5), epochs=100)
    claim(birth is None, f"{len(losses)} steps with the same logits up to {top:.1f}, refused: {birth}")
    claim_learning(np.reshape(losses, (-1, 13)).mean(1), at_most=0.5)  # by epoch


if __name__ == "__main__":
    main(run, __doc__)
