"""The public gradient check: a hand-written backward pass against central differences in float64.

The gate is relative: the whole gradient's error over its norm, and each element's error over its size, where only the
rounding error of the difference quotient itself is forgiven. There is no absolute tolerance to hide behind, and a
gradient that is zero everywhere proves nothing and fails.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import replace
from typing import Any

import numpy as np

from loopos.config import ModelConfig

from .arrays import check_function
from .model import check_loss
from .report import GradcheckError, GradcheckReport, GradcheckResult

__all__ = ["GradcheckError", "GradcheckReport", "GradcheckResult", "check_model", "gradcheck"]


def gradcheck(
    fn: Any,
    inputs: Any,
    *,
    rtol: float | None = None,
    h: float = 1e-6,
    seed: int = 0,
    directions: int = 2,
    allow_zero: bool = False,
    raise_exception: bool = True,
) -> GradcheckReport:
    """Compare gradients with central differences; return a report, or raise GradcheckError when they disagree.

    fn: (a) a function ``fn(*inputs) -> (value, gradients)`` with a scalar value;
        (b) a pair ``(forward, backward)`` with ``forward(*inputs) -> y`` (one array) and
        ``backward(dy, *inputs) -> gradients``, checked under one random dy;
        (c) a Model with ``inputs=(ids, targets)`` or (ids, targets, documents): derivatives of the loss along random
        directions, over all parameters at once and over each tensor alone. A float32 model is checked as a float64
        copy of its weights, and the report says so.
    inputs: a sequence of arrays, or one array. Float arrays must be float64: differences in float32 cannot tell a
        gradient that is 1 % wrong from a right one. Integer and bool arrays and anything else are handed through.
        ``gradients`` is aligned with the inputs, None where there is none; a single float input's may be a bare array.
    rtol: the gate on the relative error; 1e-6 for arrays, 1e-7 for a Model.
    h: the step is h * max(1, abs(x)). An element that disagrees is looked at again with extrapolated differences before
        it counts.
    directions: random directions per tensor, for a Model. seed: of dy and of the directions.
    allow_zero: let a gradient that is zero, and rightly so, pass.

    Inputs and weights are bitwise what they were afterwards. Raises TypeError for inputs in another float type and
    ValueError for a gradient list of another length than inputs, whatever raise_exception says.
    """
    is_model = hasattr(fn, "loss_and_grads")
    rtol = (1e-7 if is_model else 1e-6) if rtol is None else rtol
    for name, number in (("rtol", rtol), ("h", h)):
        if not 0 < number < 1:
            raise ValueError(f"gradcheck: {name} must lie between 0 and 1, got {number!r}")
    if directions < 1:
        raise ValueError(f"gradcheck: directions must be at least 1, got {directions!r}")
    inputs = tuple(inputs) if isinstance(inputs, Sequence) else (inputs,)
    if is_model and len(inputs) not in (2, 3):
        raise ValueError(
            "gradcheck: a model is checked on inputs=(ids, targets) or (ids, targets, documents), got "
            f"{len(inputs)} inputs"
        )
    pair = isinstance(fn, tuple | list) and len(fn) == 2 and all(map(callable, fn))
    if not (is_model or pair or callable(fn)):
        raise TypeError(f"gradcheck: fn must be a function, a pair (forward, backward) or a Model, got {fn!r:.100}")
    with np.errstate(all="ignore"):  # what is not finite is reported below, by name
        report = (
            check_loss(fn, inputs, rtol, seed, directions, allow_zero)
            if is_model
            else check_function(fn, inputs, rtol, h, seed, allow_zero)
        )
    if raise_exception and not report:
        raise GradcheckError(report)
    return report


def check_model(
    config: ModelConfig | None = None,
    *,
    batch_size: int = 2,
    seq_len: int | None = None,
    rtol: float = 1e-7,
    seed: int = 0,
    directions: int = 2,
) -> GradcheckReport:
    """Check a whole Model's backward pass in float64 on random ids, a tenth of the targets ignored; the report tells.

    config: a ModelConfig, or None for two small models, GPT-2-like and Llama-like with grouped key/value heads.
    seq_len: context_length, at most 16, unless given. Weights get noise of 0.2 on top of their initial values, so that
    attention is far from uniform and no part of a gradient is too small to be seen.
    """
    from loopos.model import Model  # here, because the check itself works without the extension

    configs = {"": config}
    if config is None:
        size = dict(vocab_size=29, context_length=8, n_layer=2, n_head=4, d_model=16, d_ff=24)
        llama = dict(norm="rmsnorm", activation="swiglu", position="rope", n_kv_head=2)
        configs = {
            "GPT-2: ": ModelConfig(**size),
            "Llama: ": ModelConfig(**size, **llama, bias=False, tie_embeddings=False),
        }
    results: list[GradcheckResult] = []
    for prefix, each in configs.items():
        rng = np.random.default_rng(seed)
        model = Model(each, seed=seed, dtype="float64")
        for view in model.parameters().values():
            view += rng.normal(0, 0.2, view.shape)
        T = min(each.context_length, 16) if seq_len is None else seq_len
        ids, targets = rng.integers(0, each.vocab_size, (2, batch_size, T))
        targets.reshape(-1)[1::10] = -100
        report = gradcheck(model, (ids, targets), rtol=rtol, seed=seed, directions=directions, raise_exception=False)
        results += [replace(r, name=prefix + r.name) for r in report.results]
    return GradcheckReport(tuple(results), rtol, "float64, random ids and weights")
