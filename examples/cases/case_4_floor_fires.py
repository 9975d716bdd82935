"""Case 4: "massive loss values (1.7e25)" (covariance of 144 sensors, predicted and blended with a sample covariance).

The blend was scaled to trace 144 by 144 / clamp_min(trace, 1e-9). The write-up found the sample covariance too small
(norm 2.85e-4) and normalised it; but that explains a norm of 4.2e7 by its own arithmetic, and 3.46e12 was observed,
which is 24 x 144 / 1e-9: the floor fired. It can fire only where the blend's trace is not positive, which no
covariance has. The cause is a predicted "covariance" that is Hermitian but not positive semidefinite. Predicted as F
F^H its trace is positive by construction; the floor goes, the sample covariance stays as tiny as it was, and it
trains. "Loss is finite" passed all the time; LoopOS names the floor, and its Adam refuses the update.

Run: python case_4_floor_fires.py          (some seconds; --skip-fix keeps the indefinite prediction and the floor)
"""

from __future__ import annotations

import numpy as np
from claims import claim, claim_learning, main

import loopos
from loopos import ops
from loopos.health.stages import examine

N, RANK, FEATURES, BATCH = 144, 4, 8, 4
KEEP, FLOOR = 0.369, 1e-9  # the prediction's weight in the blend (inferred from the log), the floor of the trace
PRED_NORM, SAMPLE_NORM = 65.10, 2.85e-4  # as the log printed them


def adjoint(x):
    return x.conj().swapaxes(1, 2)


def traces(x):
    return np.einsum("bii->b", x).real


def data(step: int, n: int = N):
    """Features z (B, FEATURES), the true covariance of each, trace n, and a far too small sample covariance."""
    rng = np.random.default_rng([1, step])
    z = rng.normal(size=(BATCH, FEATURES)).astype(np.float32)
    basis = np.random.default_rng(2).normal(size=(FEATURES, n, RANK, 2))
    factor = np.tensordot(z.astype(np.float64), basis @ [1, 1j], 1)
    true = factor @ adjoint(factor)
    shots = factor @ (rng.normal(size=(BATCH, RANK, 16, 2)) @ [1, 1j])
    sample = shots @ adjoint(shots)
    sample *= SAMPLE_NORM / np.linalg.norm(sample, axis=(1, 2), keepdims=True)
    return z, true * (n / traces(true))[:, None, None], sample


def start(kind: str, n: int = N, dtype="float32") -> np.ndarray:
    """The head's weight (FEATURES, n * columns * 2): real and imaginary parts of n x n or n x RANK entries."""
    columns, scale = (n, PRED_NORM / (n * FEATURES**0.5)) if kind == "indefinite" else (RANK, 1)  # the norm in the log
    return np.random.default_rng(3).normal(0, scale, (FEATURES, n * columns * 2)).astype(dtype)


def loss_and_grad(kind, weight, z, true, sample):
    """Squared Frobenius error of the normalised blend, mean over the batch; its gradient for weight; the stages on the
    way. Computed in complex128; a gradient for (re, im) is the complex number re + i im."""
    n = true.shape[-1]
    out = (z @ weight).reshape(len(z), n, -1, 2).astype(np.float64) @ [1, 1j]
    power = (np.abs(out) ** 2).sum((1, 2))[:, None, None]  # the trace of F F^H, positive unless F is 0
    pred = (out + adjoint(out)) / 2 if kind == "indefinite" else n / power * out @ adjoint(out)
    mixed = KEEP * pred + (1 - KEEP) * sample
    trace = traces(mixed)[:, None, None]
    clamped = np.maximum(trace, FLOOR) if kind == "indefinite" else trace
    blend = n / clamped * mixed
    loss = (np.abs(blend - true) ** 2).sum() / len(z)

    dblend = 2 / len(z) * (blend - true)
    dtrace = -(dblend.conj() * blend).sum((1, 2)).real[:, None, None] / clamped * (trace == clamped)
    dpred = KEEP * (n / clamped * dblend + dtrace * np.eye(n))
    dout = dpred  # which is Hermitian
    if kind == "factor":
        along = (dpred.conj() * pred).sum((1, 2)).real[:, None, None]
        dout = 2 / power * (n * dpred @ out - along * out)
    flat = np.stack([dout.real, dout.imag], -1).reshape(len(z), -1)
    stages = {"predicted": pred, "sample": sample, "mixed": mixed, "trace": trace, "floored trace": clamped}
    stages |= {"factor": n / clamped, "blend": blend}
    return float(loss), (z.T.astype(np.float64) @ flat).astype(weight.dtype), stages


MADE = {"mixed": ("weighted sum", "predicted", "sample"), "trace": ("trace", "mixed")}
MADE |= {"floored trace": ("floor", "trace", FLOOR), "factor": ("divide", N, "floored trace")}
MADE |= {"blend": ("multiply", "mixed", "factor")}


def train(kind, steps=150, rate=0.03):
    """(losses by step, the birth that LoopOS's Adam refused an update for or None, its count of updates)."""
    weight, losses = start(kind), []
    optimizer = loopos.optim.Adam({"head": weight}, rate)
    for step in range(steps):
        loss, grad, _ = loss_and_grad(kind, weight, *data(step))
        losses.append(loss)
        try:
            optimizer.step({"head": grad})
        except loopos.NonFiniteError as error:
            return losses, error.birth, optimizer.state_dict()["step"]
    return losses, None, optimizer.state_dict()["step"]


def diagnose(kind):
    """What LoopOS says of the stages of a batch; the stages; the least eigenvalues of the blend as the write-up
    repaired it (sample normalised, no scaling of the blend, diagonal loading 1e-3)."""
    stages = loss_and_grad(kind, start(kind), *data(0))[2]
    sample = stages["sample"] * (N / traces(stages["sample"]))[:, None, None]
    repaired = KEEP * stages["predicted"] + (1 - KEEP) * sample + 1e-3 * np.eye(N)
    return examine(stages, MADE), stages, np.linalg.eigvalsh(repaired)[:, 0]


def run(fixed: bool) -> None:
    print("It fails as described:")
    batch = data(0)
    loss, grad, stages = loss_and_grad("indefinite", start("indefinite"), *batch)
    claim(1e24 < loss < 1e26 and np.isfinite(loss), f"loss {loss:.2e}, and np.isfinite(loss) is {np.isfinite(loss)}")
    norms = np.linalg.norm(stages["blend"], axis=(1, 2))
    claim(1e12 < norms.max() < 1e13, f"norms of the four blends: {', '.join(f'{x:.3g}' for x in norms)}")
    with np.errstate(over="ignore"):
        naive = np.sqrt((grad**2).sum())
    exact = ops.global_norm([grad])
    claim(np.isinf(naive) and exact < 1e30, f"gradient norm in float32 squares {naive}, by LoopOS {exact:.1e}")

    print("What the write-up said of it does not hold:")
    least = (traces(batch[2]) / np.linalg.norm(batch[2], axis=(1, 2))).min()
    claim(least >= 1, f"trace 1.7e-4 at norm 2.85e-4 is no covariance's: here trace / norm is at least {least:.2f}")
    sound = loss_and_grad("factor", start("factor"), *batch)[2]
    top, most = np.linalg.norm(sound["blend"], axis=(1, 2)).max(), sound["factor"].max()
    claim(top < 100, f"a semidefinite prediction and the same tiny sample: factor {most:.2f}, norm {top:.1f}")

    print("Diagnosis with LoopOS:")
    found, _, eigenvalues = diagnose("indefinite")
    claim(found.birth is None and found.causes == ("eps-floor", "scale-jump"), f"of the stages: {found}")
    floored = stages["trace"].reshape(-1) < 0
    claim(
        f"decides {floored.sum()} of" in found.findings[0].says, f"trace below 0: {floored}, and there the floor acts"
    )
    low, high = norms[~floored].max(), norms[floored].min()
    claim(low < 1e4 and high > 1e12, f"norms without the floor are at most {low:.3g}, with it at least {high:.3g}")
    claim(eigenvalues.max() < 0, f"its fixes leave no covariance: least eigenvalues of {eigenvalues.max():.2f} or less")
    _, birth, updates = train("indefinite")
    claim(birth is not None and birth.phase == "update", f"Adam refused: {birth}")
    claim(updates == 0, f"{updates} updates were done: the scheduler's warning was no false positive")

    small = [part.astype(np.float64 if part.dtype == np.float32 else part.dtype) for part in data(0, n=6)]
    for kind in ("indefinite", "factor"):
        report = loopos.gradcheck(lambda w, k=kind: loss_and_grad(k, w, *small)[:2], start(kind, 6, "float64"))
        claim(bool(report), f"gradcheck of the {kind} prediction passes with relative error {report.max_error:.0e}")

    print("Repaired: the prediction is F F^H, no floor, the sample as tiny as before:")
    kind = "factor" if fixed else "indefinite"
    losses, birth, updates = train(kind)
    claim(birth is None and updates == 150, f"{updates} updates done, refused: {birth}")
    found, stages, least = diagnose(kind)
    claim(found.causes == (), f"scaled by {stages['factor'].max():.2f} at most: {found}")
    claim(least.min() > 0, f"least eigenvalue {least.min():.1e}")
    claim_learning(losses, at_most=0.2)


if __name__ == "__main__":
    main(run, __doc__)
