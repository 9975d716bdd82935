"""A model's gradients, along random directions in its weights."""

from __future__ import annotations

import math
from dataclasses import replace
from functools import partial

import numpy as np

from loopos.errors import NonFiniteError
from loopos.trainable import freeze_alike, trainable_of

from .numeric import EPS, difference, ridders
from .report import FLAT, GradcheckReport, GradcheckResult, unusable

STEP = 1e-3  # the first and longest step along a direction in the weights; the extrapolation shortens it
LEVELS = 10  # down to 4e-9, between the kinks of a hundred thousand relus; a smooth loss needs three


def check_loss(model, inputs, rtol: float, seed: int, directions: int, allow_zero: bool) -> GradcheckReport:
    """Case (c) of :func:`loopos.gradcheck`."""
    note = "float64 model"
    if model.dtype != "float64":
        copy = type(model)(model.config, dtype="float64")
        copy.load_state_dict({name: x.astype(np.float64) for name, x in model.state_dict().items()})
        freeze_alike(copy, model)
        model, note = copy, f"{model.dtype} model, checked as a float64 copy of its weights"
    own = {"documents": inputs[2]} if len(inputs) == 3 else {}
    loss_of = partial(model.loss, *inputs[:2], **own)
    try:
        loss, gradients = model.loss_and_grads(*inputs[:2], **own)
    except NonFiniteError as error:
        return GradcheckReport((GradcheckResult("loss", False, math.inf, str(error)),), rtol, note)
    views, saved = trainable_of(model), model.state_dict()
    if list(gradients) != list(views) or not math.isfinite(loss):
        same = list(gradients) == list(views)
        why = f"the loss is {loss}" if same else "gradients and parameters have different names"
        return GradcheckReport((GradcheckResult("loss", False, math.inf, why),), rtol, note)
    rng = np.random.default_rng(seed)
    results = []
    for name in ["all parameters", *views]:
        group = list(views) if name == "all parameters" else [name]
        wrong = [w for w in (unusable(k, gradients[k], views[k].shape) for k in group) if w is not None]
        if wrong:
            results.append(replace(wrong[0], name=name, reason=f"{wrong[0].name}: {wrong[0].reason}"))
            continue
        try:
            found = [_along(loss_of, views, saved, gradients, group, rng, rtol) for _ in range(directions)]
        finally:
            for key in group:
                views[key][...] = saved[key]
        error, a, n, doubt = max(found, key=lambda r: math.inf if math.isnan(r[0]) else r[0])
        flat = max(abs(a), abs(n)) <= 64 * EPS * abs(loss) / STEP
        reason = ""
        if flat and not allow_zero:
            reason = FLAT
        elif not flat and not error <= rtol:
            reason = "the gradient is zero, the loss is not flat" if a == 0 else "the gradient is wrong"
            if abs(a - n) <= 10 * doubt:
                reason = (
                    f"undecided: the loss has kinks here, its derivative is known to {doubt:.1e} only; use fewer tokens"
                )
        error = 0.0 if flat else error if math.isfinite(error) else math.inf
        results.append(GradcheckResult(name, not reason, error, reason, None, a, n))
    return GradcheckReport(tuple(results), rtol, note)


def _along(loss_of, views, saved, gradients, group, rng, rtol: float) -> tuple[float, ...]:
    """Along a random direction in ``group``: relative error, the gradient's derivative, the loss's and its own error.

    The direction is the gradient's plus noise. Noise of 1 in every weight shows an error in any of them; where it
    drives the loss over the kinks of relu at every step, noise of norm 1 is tried, which moves a model less for the
    same slope.
    """
    noise = {key: rng.standard_normal(saved[key].shape) for key in group}
    size, norm = _norm(noise, group), _norm(gradients, group)
    sign = math.copysign(1.0, _dot(noise, gradients, group))  # so that the two derivatives add up, never to nothing
    for width in (1.0, 1 / size):
        d = {key: width * noise[key] + (sign / norm * gradients[key] if norm > 0 else 0) for key in group}

        def loss_at(t: float, d=d) -> np.ndarray:
            for key in group:
                views[key][...] = saved[key] + t * d[key]
            return np.array([loss_of()])

        def central(step: float, loss_at=loss_at) -> tuple[float, float]:
            return difference(loss_at(step), loss_at(-step), 2 * step, np.ones(1))

        analytic = _dot(gradients, d, group)
        numeric, doubt = ridders(central, STEP, levels=LEVELS, enough=0.01 * rtol)
        scale = max(abs(analytic), abs(numeric))
        error = abs(analytic - numeric) / scale if scale > 0 else 0.0
        if error <= rtol or doubt <= 0.1 * rtol * scale:
            break
    return error, analytic, numeric, doubt


def _dot(a, b, group) -> float:
    return sum(float(np.vdot(a[key], b[key])) for key in group)


def _norm(a, group) -> float:
    return math.sqrt(_dot(a, a, group))
