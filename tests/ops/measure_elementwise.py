"""Prints, as JSON, how far the float32 kernels of the instruction set in use are from float64.

Run by the fixture `measured` (conftest.py) once for each instruction set: it is chosen at import, for the process.
"""

from __future__ import annotations

import hashlib
import json
import math
from functools import partial

import numpy as np
from sweeps import POWERS

import loopos
from loopos import ops
from loopos.choices import ACTIVATIONS, FUNCTIONS, GATES

F = np.float32
erfc = np.vectorize(math.erfc)


def ulps(got, want):
    """Largest distance in units of the last place of the float32 nearest to `want`."""
    with np.errstate(over="ignore", under="ignore"):
        return float(
            np.max(np.abs(got.astype(np.float64) - want) / np.spacing(np.abs(want).astype(F)).astype(np.float64))
        )


def normrel(got, want):
    return float(np.linalg.norm(got.astype(np.float64) - want) / np.linalg.norm(want))


def grid(low, high, count=200_003):
    return np.linspace(low, high, count).astype(F)


def small(count=50_001):
    """Both signs, every magnitude from 2^-40 to 1."""
    x = np.exp2(np.linspace(-40, 0, count)).astype(F)
    return np.concatenate([x, -x])


def exp(x):
    """e^x as the kernels compute it, by way of log_softmax_backward: dx = dy - e^y sum(dy)."""
    y = np.append(x, F(0))
    return -ops.log_softmax_backward(np.append(np.zeros_like(x), F(1)), y)[:-1]


def elementary():
    x = grid(-87.3, 88.7)
    out = {"exp": ulps(exp(x), np.exp(x.astype(np.float64)))}
    x = grid(-104, -87.3)  # subnormal results: gradual, not flushed
    out["exp_subnormal"] = ulps(exp(x), np.exp(x.astype(np.float64)))
    special = np.array([0, -0.0, -104, -1e30, -np.inf, 88.73, 1e30, np.inf, np.nan], F)
    out["exp_special"] = [repr(abs(float(v))) for v in exp(special)]
    sigmoid = lambda x: np.exp(-np.logaddexp(0, -x))  # noqa: E731
    for x in (grid(-20, 20), small(), grid(-87, 87)):
        wide = x.astype(np.float64)
        references = {"tanh": np.tanh(wide), "sigmoid": sigmoid(wide), "silu": wide * sigmoid(wide)}
        for name, want in references.items():
            out[name] = max(out.get(name, 0), ulps(getattr(ops, name)(x), want))
    x = grid(-103, -87)
    out["silu_subnormal"] = ulps(ops.silu(x), x * sigmoid(x.astype(np.float64)))
    x = grid(-10, 10, 20_001)
    wide = x.astype(np.float64)
    want = wide * erfc(-wide / math.sqrt(2)) / 2
    out["gelu"] = float(np.max(np.abs(ops.gelu(x) - want)))
    out["gelu_relative"] = float(np.max(np.abs(ops.gelu(x) - want)[x != 0] / np.abs(want)[x != 0]))
    u = math.sqrt(2 / math.pi) * (wide + 0.044715 * wide**3)
    out["gelu_tanh"] = float(np.max(np.abs(ops.gelu(x, "tanh") - wide * (1 + np.tanh(u)) / 2)))
    return out


def calls():
    """Every function of the family as (arrays -> result), and the shapes it takes."""
    targets = np.arange(24) * 7 % 193
    targets[5] = -100
    wide, flat = (24, 193), (4001,)
    table = {}
    for f in (*{row.f: None for row in ACTIVATIONS.values()}, "sigmoid", "tanh"):
        table[f] = (lambda x, f=f: ops.activation(x, f), [flat])
        table[f"{f}_backward"] = (lambda dy, x, f=f: ops.activation_backward(dy, x, f), [flat, flat])
    for name, row in ACTIVATIONS.items():
        if row.gated:
            back = partial(ops.gated_backward, f=row.f)
            table[name] = (partial(ops.gated, f=row.f), [flat, flat])
            table[f"{name}_dgate"] = (lambda *a, back=back: back(*a)[0], [flat] * 3)
            table[f"{name}_dup"] = (lambda *a, back=back: back(*a)[1], [flat] * 3)
    for gate in GATES:
        table[f"modulate_{gate}"] = (partial(ops.modulate, gate=gate), [flat] * 3)
        back = partial(ops.modulate_backward, gate=gate)
        for i, part in enumerate(("dx", "dz", "dd")):
            table[f"modulate_{gate}_{part}"] = (lambda *a, back=back, i=i: back(*a)[i], [flat] * 3)
    table |= {
        "softmax": (ops.softmax, [wide]),
        "log_softmax": (ops.log_softmax, [wide]),
        "softmax_backward": (lambda dy, x: ops.softmax_backward(dy, ops.softmax(x)), [wide, wide]),
        "log_softmax_backward": (lambda dy, x: ops.log_softmax_backward(dy, ops.log_softmax(x)), [wide, wide]),
        "logsumexp": (ops.logsumexp, [wide]),
        "logsumexp_backward": (ops.logsumexp_backward, [wide[:1], wide]),
        "dropout": (lambda x: ops.dropout(x, 0.3, seed=3), [flat]),
        "add": (ops.add, [flat, flat]),
        "position_embedding": (lambda x, w: ops.position_embedding(x, w, start=3), [(2, 5, 33), (9, 33)]),
        "position_embedding_dweight": (lambda dy: ops.position_embedding_backward(dy, 9)[1], [(2, 5, 33)]),
    }
    for label, options in {"": {}, "_smooth": {"label_smoothing": 0.1, "z_loss": 1e-3}}.items():
        table["cross_entropy" + label] = (
            lambda x, o=options: np.float64(ops.cross_entropy(x, targets, **o)[0]),
            [wide],
        )
        table[f"cross_entropy{label}_backward"] = (
            lambda x, o=options: ops.cross_entropy_backward(1.0, x, targets, **o),
            [wide],
        )
    return table


def scales():
    """normrel of float32 against float64 on the same rounded inputs, worst over scales 2^0..2^9 of the last argument.

    softmax_backward cancels where y is nearly one-hot: its error is measured against the terms that cancel, y dy.
    """
    out = {}
    for name, (f, shapes) in calls().items():
        rng = np.random.default_rng(len(name))
        worst = 0.0
        for power in POWERS:
            args = [rng.standard_normal(s).astype(F) for s in shapes]
            args[-1] = args[-1] * F(2**power)
            wide = [a.astype(np.float64) for a in args]
            got, want = f(*args), f(*wide)
            if name == "softmax_backward":
                worst = max(worst, float(np.linalg.norm(got - want) / np.linalg.norm(ops.softmax(wide[1]) * wide[0])))
            else:
                worst = max(worst, normrel(got, want))
        out[name] = worst
    return out


def vocabulary():
    """Cross-entropy over a real vocabulary: relative error of the loss and normrel of dlogits."""
    out = {"loss": 0.0, "dlogits": 0.0, "dlogits_sure": 0.0, "softmax_sum": 0.0, "logsumexp": 0.0, "log_softmax": 0.0}
    rng = np.random.default_rng(0)
    for vocab, sd in ((64, 1), (64, 10), (50257, 1), (50257, 10)):
        x = (sd * rng.standard_normal((8, vocab))).astype(F)
        t = rng.integers(0, vocab, 8)
        wide = x.astype(np.float64)
        want = ops.cross_entropy(wide, t)[0]
        out["loss"] = max(out["loss"], abs(ops.cross_entropy(x, t)[0] - want) / want)
        back = ops.cross_entropy_backward
        out["dlogits"] = max(out["dlogits"], normrel(back(1.0, x, t), back(1.0, wide, t)))
        t = x.argmax(-1)
        x[np.arange(8), t] += 12 if sd == 1 else 3  # p_t = 1 - 1e-6 or so: p_t - 1 must keep its digits
        out["dlogits_sure"] = max(out["dlogits_sure"], normrel(back(1.0, x, t), back(1.0, x.astype(np.float64), t)))
        out["softmax_sum"] = max(out["softmax_sum"], float(np.abs(ops.softmax(x).astype(np.float64).sum(-1) - 1).max()))
        lse = ops.logsumexp(wide)
        out["logsumexp"] = max(
            out["logsumexp"], float(np.max(np.abs(ops.logsumexp(wide.astype(F)) - lse) / np.abs(lse)))
        )
        bound = 2**-23 * np.abs(wide).max()
        out["log_softmax"] = max(
            out["log_softmax"], float(np.abs(ops.log_softmax(wide.astype(F)) - ops.log_softmax(wide)).max() / bound)
        )
    return out


def extremes():
    """Largest difference of float32 and float64 where every exponential is 0 or 1, up to the largest numbers."""
    worst = 0.0
    for n in (1, 16, 37):
        for low, high in ((-3e38, 3e38), (-3e38, -1e38), (-1e4, 1e4), (0, 3e38), (-3.4e38, -3.3e38)):
            x = np.full((2, n), low, F)
            x[:, n // 2] = high
            t = np.array([n // 2, 0])
            for f in (ops.softmax, lambda x, t=t: ops.cross_entropy_backward(1.0, x, t)):
                worst = max(worst, float(np.abs(f(x) - f(x.astype(np.float64))).max()))
    return worst


def flags():
    """The functions that raise FE_INVALID, FE_DIVBYZERO or FE_OVERFLOW on finite inputs, of odd sizes and large."""
    loopos.set_num_threads(1)
    raised = []
    table = calls()
    overflows = {"log_softmax", "log_softmax_backward", "dropout"}  # their true results are beyond float32 at 3e38
    steep = {f for f, function in FUNCTIONS.items() if function.steepest is None}
    steep |= {f"{f}_backward" for f in steep}  # they overflow by their nature; tests/ops/test_activation.py has where
    for name, (f, shapes) in table.items():
        if name in steep:
            continue
        for dtype in (np.float32, np.float64):
            for n in (1, 3, 17, 193) if len(shapes[-1]) == 1 else (193,):
                for size in (1.0, 80.0, 1e4, 1e30, 3e38):
                    shape = [(n,) if len(s) == 1 and len(shapes[-1]) == 1 else s for s in shapes]
                    args = [np.full(s, 0.5, dtype) for s in shape]
                    last = np.full(shape[-1], size, dtype)
                    last.flat[::2] *= -1
                    args[-1] = last
                    loopos._core.raised_flags()  # forget what came before
                    f(*args)
                    seen = any(loopos._core.raised_flags().values())
                    if size == 3e38 and dtype is np.float32 and name in overflows:
                        assert seen, name  # so the flags do tell
                        continue
                    if seen:
                        raised.append(f"{name} {dtype.__name__} n={n} size={size}")
    return raised


def masks():
    """A digest of dropout's masks: the same on every instruction set."""
    digest = hashlib.sha256()
    for offset, n in ((0, 1001), (3, 997), (2**33 - 5, 64), (2**64 - 100, 99)):
        digest.update((ops.dropout(np.ones(n, F), 0.37, seed=2**63 + 11, offset=offset) != 0).tobytes())
    return digest.hexdigest()


if __name__ == "__main__":
    with np.errstate(all="ignore"):
        print(json.dumps({f.__name__: f() for f in (elementary, scales, vocabulary, masks, extremes, flags)}))
