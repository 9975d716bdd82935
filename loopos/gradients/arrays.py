"""A function's gradients, element by element."""

from __future__ import annotations

import math
from collections.abc import Callable, Sequence

import numpy as np

from .numeric import difference, relative, ridders
from .report import FLAT, GradcheckReport, GradcheckResult, unusable


def check_function(fn, inputs: Sequence, rtol: float, h: float, seed: int, allow_zero: bool) -> GradcheckReport:
    """Cases (a) and (b) of :func:`loopos.gradcheck`."""
    for k, x in enumerate(inputs):
        if isinstance(x, np.ndarray | np.generic) and x.dtype.kind in "fc" and x.dtype != np.float64:
            raise TypeError(
                f"gradcheck: input {k} is {x.dtype}, expected float64: central differences in float32 are themselves "
                "wrong by up to 1 %; check the float64 instantiation and compare float32 with it"
            )
    work = [np.array(x, order="C") if isinstance(x, np.ndarray) else x for x in inputs]
    floats = [k for k, x in enumerate(work) if isinstance(x, np.ndarray) and x.dtype == np.float64]
    if not floats:
        raise ValueError("gradcheck: there is no float64 array among the inputs, so nothing can be differentiated")
    before = [x.tobytes() for x in work if isinstance(x, np.ndarray)]
    scalar = callable(fn)
    if scalar:
        value, gradients = fn(*work)
    else:
        value = fn[0](*work)
    y = _values(value)
    if scalar and y.size != 1:
        raise ValueError(f"gradcheck: fn must return (value, gradients), a scalar first, got shape {y.shape}")
    dy = np.ones(y.shape)
    if not scalar:
        rng = np.random.default_rng(seed)
        dy = rng.uniform(0.5, 1.5, y.shape) * rng.choice([-1.0, 1.0], y.shape)
        gradients = fn[1](dy.copy() if y.ndim else float(dy), *work)
    changed = before != [x.tobytes() for x in work if isinstance(x, np.ndarray)]
    gradients = _aligned(gradients, inputs, floats)

    def forward() -> np.ndarray:
        return _values(fn(*work)[0] if scalar else fn[0](*work))

    if changed or forward().tobytes() != y.tobytes():
        why = "the function changed one of its inputs" if changed else "two calls on the same inputs differ"
        return GradcheckReport((GradcheckResult("function", False, math.inf, why),), rtol)
    results = [
        _check_array(f"input {k}", work[k], gradients[k], forward, dy, rtol, h, allow_zero)
        for k in floats
        if gradients[k] is not None
    ]
    if not results:
        raise ValueError("gradcheck: every gradient is None, so nothing can be compared")
    return GradcheckReport(tuple(results), rtol)


def _values(y) -> np.ndarray:
    if isinstance(y, tuple | list):
        raise TypeError("gradcheck: forward returned several results; wrap it so that it returns the one to check")
    y = np.array(y)  # a copy: a function may reuse its result
    if y.dtype != np.float64:
        raise TypeError(f"gradcheck: the forward function must return float64, got {y.dtype}")
    return y


def _aligned(gradients, inputs: Sequence, floats: list[int]) -> list:
    if not isinstance(gradients, tuple | list):
        if len(floats) != 1:
            got = type(gradients).__name__
            raise ValueError(f"gradcheck: {len(floats)} float64 inputs need a tuple of gradients, got one {got}")
        gradients = [gradients if k == floats[0] else None for k in range(len(inputs))]
    if len(gradients) != len(inputs):
        wanted = f"{len(inputs)} gradients, one per input (None where there is none)"
        raise ValueError(f"gradcheck: expected {wanted}, got {len(gradients)}")
    for k, g in enumerate(gradients):
        if g is not None and k not in floats:
            got = type(g).__name__
            raise ValueError(f"gradcheck: input {k} is not a float64 array; its gradient must be None, got {got}")
    return [None if g is None else np.array(g) for g in gradients]  # copies: a function may reuse its results


def _check_array(name, x, gradient, forward: Callable, dy, rtol: float, h: float, allow_zero: bool) -> GradcheckResult:
    wrong = unusable(name, gradient, x.shape)
    if wrong is not None or not x.size:
        return wrong or GradcheckResult(name, True, 0.0, "no elements")
    flat, a = x.reshape(-1), gradient.reshape(-1)

    def central(i: int, step: float) -> tuple[float, float]:
        origin = flat[i]
        try:
            flat[i] = origin + step
            up, y_up = flat[i], forward()
            flat[i] = origin - step
            down, y_down = flat[i], forward()
        finally:
            flat[i] = origin
        return difference(y_up, y_down, float(up - down), dy)

    steps = h * np.maximum(1, np.abs(flat))
    n, floor = np.array([central(i, float(steps[i])) for i in range(a.size)]).T
    # The gradient under test is rounded too: an element that cancels to nothing keeps the rounding of its sum.
    floor = np.maximum(floor, 64 * np.finfo(np.float64).eps * np.abs(a).max())
    # An element in doubt gets a second opinion, the worst first, until none is in doubt or one is surely wrong.
    for i in np.argsort(-np.where(np.isnan(n), np.inf, np.abs(a - n))):
        if relative(a, n, floor)[0] <= rtol:
            break
        extrapolated, error = ridders(lambda step, i=i: central(i, step), 1000 * float(steps[i]))
        if not abs(a[i] - n[i]) <= abs(a[i] - extrapolated):
            n[i], floor[i] = extrapolated, min(floor[i], error)  # a rough function forgives nothing
        if not relative(a[[i]], n[[i]], floor[[i]], whole=False)[0] <= rtol:
            break
    error, worst = relative(a, n, floor)
    index = tuple(int(i) for i in np.unravel_index(worst, x.shape))
    reason = ""
    zero = bool((np.maximum(np.abs(a), np.abs(n)) <= floor).all())
    if zero and not allow_zero:
        reason = FLAT
    elif not zero and not error <= rtol:
        reason = "the gradient is zero, the function is not flat" if not a.any() else "the gradient is wrong"
        reason = reason if np.isfinite(n).all() else "the function is not finite around the inputs"
    error = 0.0 if zero else error if math.isfinite(error) else math.inf
    return GradcheckResult(name, not reason, error, reason, index, float(a[worst]), float(n[worst]))
