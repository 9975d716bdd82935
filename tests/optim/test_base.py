"""The optimizers: state that continues bit for bit, and every refusal before anything is touched."""

from __future__ import annotations

import numpy as np
import pytest
from optimizers import MAKERS, bits, draw, make, shapes_of

from loopos import NonFiniteError, optim


@pytest.mark.parametrize("kind", MAKERS)
@pytest.mark.parametrize("dtype", [np.float32, np.float64])
def test_state_continues_bit_for_bit(kind, dtype):
    shapes = shapes_of(kind)
    params = draw(0, dtype, shapes)
    optimizer = make(kind, params)
    for seed in (1, 2):
        optimizer.step(draw(seed, dtype, shapes))
    state = optimizer.state_dict()
    assert all(isinstance(v, (np.ndarray, int)) for v in state.values())
    copies = {n: p.copy() for n, p in params.items()}
    other = make(kind, copies)
    other.load_state_dict(state)
    for seed in (3, 4):
        optimizer.step(draw(seed, dtype, shapes))
        other.step(draw(seed, dtype, shapes))
    assert bits(optimizer, params) == bits(other, copies)
    assert state["step"] == 2  # a copy: it did not move


@pytest.mark.parametrize("kind", ["nesterov", "adamw"])
def test_a_bad_state_is_refused_whole(kind):
    params = draw(0, np.float32)
    optimizer = make(kind, params)
    optimizer.step(draw(1, np.float32))
    before = bits(optimizer, params)
    moment = next(k for k in optimizer.state_dict() if k.endswith(".w"))

    def changed(**changes):
        state = {k: v * 2 for k, v in optimizer.state_dict().items()}
        for key, value in changes.items():
            state[key] = value
        return state

    missing = changed(extra=1)
    del missing[moment]
    with pytest.raises(ValueError, match=rf"(?s)missing: \['{moment}'\].*unexpected: \['extra'\]"):
        optimizer.load_state_dict(missing)
    big = moment.replace(".w", ".big")
    with pytest.raises(ValueError, match=rf"{moment}: expected shape \(5, 7\), got \(7, 5\); {big}: expected shape"):
        optimizer.load_state_dict(changed(**{moment: np.zeros((7, 5), np.float32), big: np.zeros(3, np.float32)}))
    for value in (np.zeros((5, 7)), [1.0], None):
        with pytest.raises(TypeError, match=moment):
            optimizer.load_state_dict(changed(**{moment: value}))
    for step in (True, 1.5, "1", None, np.zeros(2)):
        with pytest.raises(TypeError, match="step must be a whole number"):
            optimizer.load_state_dict(changed(step=step))
    with pytest.raises(ValueError, match="step must not be negative"):
        optimizer.load_state_dict(changed(step=-1))
    with pytest.raises(TypeError, match="state must be a dict"):
        optimizer.load_state_dict([])
    if kind == "adamw":
        with pytest.raises(ValueError, match="second moment must not be negative"):
            optimizer.load_state_dict(changed(**{"exp_avg_sq.w": np.full((5, 7), -1, np.float32)}))
    assert before == bits(optimizer, params)


def test_moments_written_by_hand_are_looked_at():
    """Bounds know nothing of what is written through the core's views: the next step must measure again."""
    params = {"w": np.ones(4, np.float32)}
    for value in (np.float32(3e38), np.float32("nan"), np.float32("inf")):
        optimizer = optim.SGD(params, 10.0, momentum=0.9)
        optimizer.step({"w": np.zeros(4, np.float32)})
        optimizer._core.state()["momentum.w"][2] = value
        with pytest.raises(NonFiniteError):
            optimizer.step({"w": np.zeros(4, np.float32)})
        assert (params["w"] == 1).all()
    optimizer = optim.Adam(params)
    optimizer._core.state()["exp_avg_sq.w"][1] = -1
    with pytest.raises(NonFiniteError):
        optimizer.step({"w": np.ones(4, np.float32)})


def test_keys_shapes_and_dtypes_are_checked_before_anything():
    params = draw(0, np.float32)
    optimizer = optim.AdamW(params)
    before = bits(optimizer, params)
    good = draw(1, np.float32)
    with pytest.raises(ValueError, match=r"(?s)missing: \['big'\].*unexpected: \['other'\]"):
        optimizer.step({**{k: v for k, v in good.items() if k != "big"}, "other": good["w"]})
    with pytest.raises(ValueError, match=r"the gradient of 'w' must have shape \(5, 7\), got \(7, 5\)"):
        optimizer.step({**good, "w": good["w"].T})
    for bad in (good["w"].astype(np.float64), good["w"].astype(int), [[1.0]], None):
        with pytest.raises(TypeError, match="the gradient of 'w' must be"):
            optimizer.step({**good, "w": bad})
    with pytest.raises(TypeError, match="grads must be a dict"):
        optimizer.step(list(good.values()))
    for lr in (-1.0, float("nan"), float("inf")):
        with pytest.raises(ValueError, match="lr must be finite and not negative"):
            optimizer.step(good, lr=lr)
    assert before == bits(optimizer, params)


@pytest.mark.parametrize("cls", [optim.SGD, optim.Adam, optim.AdamW])
def test_hyper_parameters_out_of_range(cls):
    params = {"w": np.ones(3)}
    for bad in (-1e-3, float("nan"), float("inf")):
        for name in ("lr", "weight_decay", *(("momentum",) if cls is optim.SGD else ("eps",))):
            with pytest.raises(ValueError, match=f"{cls.__name__}: {name} must be"):
                cls(params, **{"lr": 0.1, name: bad})
    for bad in ("0.1", None, True):
        with pytest.raises(TypeError, match="lr must be a number"):
            cls(params, bad)
    if cls is optim.SGD:
        for options in ({"nesterov": True}, {"nesterov": True, "momentum": 0.9, "dampening": 0.1}):
            with pytest.raises(ValueError, match="nesterov needs"):
                cls(params, 0.1, **options)
        with pytest.raises(ValueError, match="dampening must be finite"):
            cls(params, 0.1, dampening=float("nan"))
    else:
        for betas in ((1.0, 0.9), (0.9, 1.0), (-0.1, 0.9), (0.9, float("nan")), (0.9,), 0.9):
            with pytest.raises(ValueError, match="betas"):
                cls(params, betas=betas)


def test_parameters_that_cannot_be_updated_in_place():
    frozen = np.ones(3)
    frozen.flags.writeable = False
    whole = np.ones(6)
    with pytest.raises(ValueError, match=r"params\['w'\] is read-only"):
        optim.SGD({"w": frozen}, 0.1)
    with pytest.raises(ValueError, match="'a' and 'b' share memory"):
        optim.SGD({"a": whole[:4], "b": whole[3:]}, 0.1)
    with pytest.raises(TypeError, match="all float arguments of one call share one dtype"):
        optim.SGD({"a": np.ones(3), "b": np.ones(3, np.float32)}, 0.1)
    for bad in (np.ones(3, int), np.ones(3, np.float16), [1.0]):
        with pytest.raises(TypeError, match="'w'"):
            optim.SGD({"w": bad}, 0.1)
    for bad in ([np.ones(3)], np.ones(3), None):
        with pytest.raises(TypeError, match="params must be a Model or a dict"):
            optim.SGD(bad, 0.1)
    empty = optim.AdamW({})
    empty.step({})
    assert empty.state_dict() == {"step": 1}


@pytest.mark.parametrize("kind", MAKERS)
@pytest.mark.parametrize("dtype", [np.float32, np.float64])
def test_a_known_norm_changes_no_bit_and_no_refusal(kind, dtype):
    make, options = MAKERS[kind]
    results = []
    for known in (False, True):
        params = draw(0, dtype, shapes_of(kind))
        optimizer = make(params, **options)
        for step in range(3):
            grads = draw(step + 1, dtype, shapes_of(kind))
            norm = float(np.sqrt(sum((g.astype(np.float64) ** 2).sum() for g in grads.values())))
            assert optimizer._step(list(grads.values()), 0.01, 0.5, *([norm] if known else [])) is None
        grads["w"][1, 2] = np.finfo(dtype).max  # squared, or times the rate, it leaves the range
        norm = float(np.finfo(dtype).max)
        refusal = optimizer._step(list(grads.values()), 1e30, 1.0, *([norm] if known else []))
        assert refusal is None or (refusal["tensor"], refusal["index"]) == ("w", (1, 2))
        results.append((bits(optimizer, params), refusal and refusal["value"]))
    assert results[0] == results[1]
