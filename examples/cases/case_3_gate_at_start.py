"""Case 3: modulated adapters, a NaN fixed by "0.5 * sigmoid(x) + 0.5, range [0.5, 1.5], no initial effect".

Each of 32 frozen layers has its output multiplied by a gate that a small trainable adapter computes; the adapter's
last matrix starts at zero, so the gate starts at f(0). The write-up replaced 1 + tanh(x), which can reach 0, by 0.5 *
sigmoid(x) + 0.5. That has the range (0.5, 1) and is 0.75 at 0, so 32 layers start with 0.75^32 = 1e-4 of the signal,
the gradient shrinks alike, and no factor above 1 can ever be learned. Nothing becomes NaN and nothing trains. A gate
that is the identity at the start, 0.5 + sigmoid(x), has the range that was meant and trains. LoopOS's gradcheck
acquits the backward: it is the gate.

Run: python case_3_gate_at_start.py          (some seconds; --skip-fix keeps the gate of the write-up)
"""

from __future__ import annotations

import numpy as np
from claims import claim, claim_learning, main

import loopos
from loopos import ops
from loopos.health.stages import Examination, examine

LAYERS, WIDTH, RANK, BATCH = 32, 24, 4, 16

# gate, and its backward (dy, x) -> dx
GATES = {
    "written": (lambda x: (ops.sigmoid(x) + 1) / 2, lambda dy, x: ops.sigmoid_backward(dy / 2, x)),
    "repaired": (lambda x: ops.sigmoid(x) + x.dtype.type(0.5), ops.sigmoid_backward),
    "old": (lambda x: 1 + ops.tanh(x), ops.tanh_backward),
}


def teacher(dtype="float32"):
    """Frozen rotations, which keep every norm, and the fixed down-projections of the adapters."""
    rng = np.random.default_rng(0)
    rotations = [np.linalg.qr(rng.normal(size=(WIDTH, WIDTH)))[0].astype(dtype) for _ in range(LAYERS)]
    downs = [rng.normal(0, WIDTH**-0.5, (RANK, WIDTH)).astype(dtype) for _ in range(LAYERS)]
    return rotations, downs


def inputs(step: int, dtype="float32") -> np.ndarray:
    return np.random.default_rng([1, step]).normal(size=(BATCH, WIDTH)).astype(dtype)


def forward(gate, ups, x, rotations, downs):
    """h <- gate(up (down h)) * (rotation h) through all layers; what the backward needs, and the last h."""
    saved, h = [], x
    for rotation, down, up in zip(rotations, downs, ups, strict=True):
        inner, turned = ops.linear(h, down), ops.linear(h, rotation)
        raw = ops.linear(inner, up)
        saved.append((h, inner, turned, raw))
        h = gate(raw) * turned
    return saved, h


def loss_and_grads(kind, ups, x, target, rotations, downs):
    """Mean squared error over the mean square of the target, and its gradient for every up-projection."""
    gate, gate_backward = GATES[kind]
    saved, y = forward(gate, ups, x, rotations, downs)
    scale = float((target.astype(np.float64) ** 2).sum())
    loss = float(((y - target).astype(np.float64) ** 2).sum()) / scale
    dh, grads = (2 / scale * (y - target)).astype(x.dtype), []
    for (h, inner, turned, raw), rotation, down, up in list(zip(saved, rotations, downs, ups, strict=True))[::-1]:
        dinner, dup, _ = ops.linear_backward(gate_backward(dh * turned, raw), inner, up, has_bias=False)
        grads.insert(0, dup)
        through_gate = ops.linear_backward(dinner, h, down, has_bias=False)[0]
        dh = through_gate + ops.linear_backward(dh * gate(raw), h, rotation, has_bias=False)[0]
    return loss, grads


def target_of(x, rotations, downs):
    """What the student is to match: the same layers with gates between about 0.8 and 1.2."""
    rng = np.random.default_rng(2)
    ups = [rng.normal(0, 0.3, (WIDTH, RANK)).astype(x.dtype) for _ in range(LAYERS)]
    return forward(GATES["repaired"][0], ups, x, rotations, downs)[1]


def train(kind, steps=300, rate=0.1):
    """Losses by step; plain descent with momentum, gradients clipped at 0.5 as in the write-up."""
    frozen = teacher()
    ups = {f"layer.{i}.up": np.zeros((WIDTH, RANK), np.float32) for i in range(LAYERS)}
    optimizer, losses = loopos.optim.SGD(ups, rate, momentum=0.9), []
    for step in range(steps):
        x = inputs(step)
        loss, grads = loss_and_grads(kind, list(ups.values()), x, target_of(x, *frozen), *frozen)
        losses.append(loss)
        ops.clip_grad_norm_(grads, 0.5)
        optimizer.step(dict(zip(ups, grads, strict=True)))
    return losses


def at_start(kind, bias=0.0):
    """(signal before the first layer and after each, norm of the first layer's gradient), each raw being 0 (+ bias)."""
    frozen, x = teacher(), inputs(0)
    ups = [np.zeros((WIDTH, RANK), np.float32)] * LAYERS
    gate = GATES[kind][0]
    saved, y = forward(lambda raw: gate(raw + np.float32(bias)), ups, x, *frozen)
    _, grads = loss_and_grads(kind, ups, x, target_of(x, *frozen), *frozen)
    return [*(s[0] for s in saved), y], float(np.linalg.norm(grads[0]))


def left(signal):
    return np.linalg.norm(signal[-1]) / np.linalg.norm(signal[0])


def diagnose(kind) -> tuple[float, Examination]:
    """(LoopOS's gradcheck error of two layers, what it says of the signal on its way): the backward, or the gate?"""
    rotations, downs = (part[:2] for part in teacher("float64"))
    x, rng = inputs(0, "float64")[:3], np.random.default_rng(3)
    target = rng.normal(size=x.shape)
    ups = [rng.normal(0, 0.3, (WIDTH, RANK)) for _ in rotations]
    report = loopos.gradcheck(lambda *u: loss_and_grads(kind, u, x, target, rotations, downs), ups)
    return report.max_error, examine({f"after layer {i}": h for i, h in enumerate(at_start(kind)[0])})


def run(fixed: bool) -> None:
    x, zero = np.linspace(-100, 100, 2001, dtype=np.float32), np.zeros(1, np.float32)
    print("It fails, and not as a NaN:")
    written, slopes = GATES["written"][0](x), {kind: back(zero + 1, zero)[0] for kind, (_, back) in GATES.items()}
    at_zero = float(GATES["written"][0](zero)[0])
    claim(at_zero == 0.75, f"the gate that has no initial effect is {at_zero} at 0")
    claim(written.max() == 1, f"its range is {written.min()} to {written.max()}, not 0.5 to 1.5")
    signal, gradient = at_start("written")
    claim(0.9e-4 < left(signal) < 1.1e-4, f"after {LAYERS} layers {left(signal):.3e} of the signal is left")
    _, sound = at_start("repaired")
    claim(gradient < 1e-3 * sound, f"the first layer's gradient is {gradient:.1e}, with a gate of 1 it is {sound:.1e}")
    for rate in (0.1, 10, 1000):
        losses = train("written", steps=100, rate=rate)
        claim(min(losses) > 0.99, f"learning rate {rate:g}: loss {losses[0]:.5f} before, {losses[-1]:.5f} after")

    print("What the write-up said of the old gate:")
    signal = at_start("old", bias=-10)[0]
    claim((signal[1] == 0).all(), f"1 + tanh(-10) is 0 in float32: of the signal {left(signal)} is left, and no NaN")
    signal = at_start("old")[0]
    claim(abs(left(signal) - 1) < 1e-4, f"1 + tanh started as the identity: {left(signal):.6f} of the signal is left")
    claim(slopes["written"] == 0.125, f"its slope at 0 was {slopes['old']}, the new one's is {slopes['written']}")

    print("Diagnosis with LoopOS:")
    error, found = diagnose("written")
    claim(error < 1e-6, f"gradcheck passes with relative error {error:.0e}: the backward is right, whatever is small")
    claim(found.causes == ("signal-dies",) and "0.750 a block" in str(found), str(found))

    print("Repaired: 0.5 + sigmoid(x), the identity at the start:")
    kind = "repaired" if fixed else "written"
    values = GATES[kind][0](np.append(x, zero))
    claim(values[-1] == 1 and values.max() == 1.5, f"{values[-1]} at 0, range {values.min()} to {values.max()}")
    found = diagnose(kind)[1]
    claim(found.causes == (), f"{left(at_start(kind)[0]):.6f} of the signal is left after {LAYERS} layers: {found}")
    claim_learning(train(kind), at_most=0.6)


if __name__ == "__main__":
    main(run, __doc__)
