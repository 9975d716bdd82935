"""What every rule owes: the published update, all or nothing, learning rate 0, bits on any number of threads."""

from __future__ import annotations

import numpy as np
import pytest
from optimizers import MAKERS, bits, draw, make, shapes_of

from loopos import NonFiniteError, _core, optim


@pytest.mark.reference
@pytest.mark.parametrize("kind", [k for k, (cls, _) in MAKERS.items() if cls in (optim.SGD, optim.Adam, optim.AdamW)])
@pytest.mark.parametrize(("dtype", "gate"), [(np.float64, 1e-12), (np.float32, 1e-5)])
def test_a_thousand_steps_follow_torch(kind, dtype, gate):
    """Float64 leaves rounding alone. In float32 both sides round every step: 1,000 roundings of 2^-24 add up to 6e-5 if
    they all go one way, to 2e-6 as a random walk; the gate lies between."""
    torch = pytest.importorskip("torch")
    cls, options = MAKERS[kind]
    params = draw(0, dtype, {"w": (5, 7), "b": (3,)})
    theirs = [torch.nn.Parameter(torch.tensor(v)) for v in params.values()]
    ours, other = cls(params, **options), getattr(torch.optim, cls.__name__)(theirs, **{"lr": 1e-3, **options})
    rng = np.random.default_rng(1)
    for _ in range(1000):
        grads = {n: (rng.standard_normal(v.shape) + 0.1 * v).astype(dtype) for n, v in params.items()}
        for t, g in zip(theirs, grads.values(), strict=True):
            t.grad = torch.tensor(g)
        ours.step(grads)
        other.step()
    for a, t in zip(params.values(), theirs, strict=True):
        want = t.detach().numpy()
        assert np.linalg.norm(a - want) <= gate * np.linalg.norm(want)


@pytest.mark.parametrize(("steps", "gate"), [(1, 5e-7), (100, 1e-5)])
@pytest.mark.parametrize("kind", MAKERS)
def test_float_follows_double_within_the_gates(kind, steps, gate):
    shapes = shapes_of(kind)
    single = draw(0, np.float32, shapes)
    double = {n: v.astype(np.float64) for n, v in single.items()}
    pair = [(make(kind, p), p) for p in (single, double)]
    for step in range(steps):
        grads = draw(step + 1, np.float32, shapes)
        for optimizer, p in pair:
            optimizer.step({n: g.astype(p["w"].dtype) for n, g in grads.items()})
    for name, start in draw(0, np.float32, shapes).items():  # what ends near 0 keeps the rounding of where it was
        size = max(np.linalg.norm(start), np.linalg.norm(double[name]))
        assert np.linalg.norm(single[name] - double[name]) <= gate * size


def test_every_rule_is_tested_and_can_be_trained_with():
    """Whoever adds a row to the core's table is told here what else it needs."""
    from loopos.optim.training import RULES

    assert set(_core.optimizer_rules()) == {cls._rule for cls, _ in MAKERS.values()} == set(RULES)


def test_the_core_refuses_unknown_rules_options_and_ranges():
    def make(rule, **options):
        return _core.Optimizer([(rule, 1.0, options)], ["w"], [np.ones((2, 2))], [0.0], [0])

    make("sgd", momentum=0.5)
    for rule, options, words in (
        ("adagrad", {}, "there is no rule 'adagrad'; there are 'adamw', 'adam', 'sgd', 'lion', 'muon'"),
        ("sgd", {"beta1": 0.9}, "'sgd' has no option 'beta1'; it has momentum, dampening, nesterov"),
        ("adam", {"beta2": 1.0}, r"beta2 of 'adam' must be in \[0, 1\), got 1"),
        ("lion", {"beta1": float("nan")}, "beta1 of 'lion' must be in"),
        ("muon", {"ns_steps": 2.5}, r"ns_steps of 'muon' must be a whole number in \[0, 99\]"),
        ("muon", {"adjust_lr_fn": "x"}, "must be one of 'original', 'match_rms_adamw', got 'x'"),
        ("muon", {"nesterov": 1.0}, "nesterov of 'muon' is not of the type it must be"),
    ):
        with pytest.raises(ValueError, match=words):
            make(rule, **options)
    with pytest.raises(ValueError, match="group of the parameter 'w' must be below 1, got 1"):
        _core.Optimizer([("sgd", 1.0, {})], ["w"], [np.ones(2)], [0.0], [1])


def test_adamw_first_step_by_hand_and_a_planted_error():
    p = {"w": np.array([[1.0, -2.0]])}
    g = np.array([[0.5, -0.25]])
    optim.AdamW(p, 0.1, weight_decay=0.5).step({"w": g})
    want = np.array([[1.0, -2.0]]) * (1 - 0.1 * 0.5) - 0.1 * g / (np.abs(g) + 1e-8)
    np.testing.assert_allclose(p["w"], want, rtol=1e-15)
    assert not np.allclose(p["w"], want * 1.001, rtol=1e-6)


@pytest.mark.parametrize("kind", MAKERS)
@pytest.mark.parametrize("dtype", [np.float32, np.float64])
def test_bits_do_not_depend_on_threads(kind, dtype, thread_count):
    results = []
    for threads in (1, 2, 3, 5, 8):
        thread_count(threads)
        params = draw(0, dtype, shapes_of(kind))
        optimizer = make(kind, params)
        for step in range(3):
            optimizer.step(draw(step + 1, dtype, shapes_of(kind)))
        results.append(bits(optimizer, params))
    assert all(r == results[0] for r in results)


@pytest.mark.parametrize("kind", MAKERS)
@pytest.mark.parametrize("dtype", [np.float32, np.float64])
@pytest.mark.parametrize("bad", [np.nan, np.inf, -np.inf])
def test_a_bad_gradient_changes_nothing(kind, dtype, bad):
    shapes = shapes_of(kind, {"h.2.w": (5, 7), "big": (20011,)})
    params = draw(0, dtype, shapes)
    optimizer = make(kind, params)
    optimizer.step(draw(1, dtype, shapes))
    for name, index, layer in (("big", tuple(n - 1 for n in shapes["big"]), None), ("h.2.w", (4, 3), 2)):
        grads = draw(2, dtype, shapes)
        grads[name][index] = bad
        before = bits(optimizer, params)
        with pytest.raises(NonFiniteError) as caught:
            optimizer.step(grads)
        birth = caught.value.birth
        assert (birth.phase, birth.tensor, birth.index, birth.layer, birth.step) == (
            "backward",
            name,
            index,
            layer,
            None,
        )
        assert str(birth.value) == str(bad)
        assert before == bits(optimizer, params)
    optimizer.step(draw(3, dtype, shapes))  # and it goes on
    assert optimizer.state_dict()["step"] == 2


@pytest.mark.parametrize("kind", MAKERS)
@pytest.mark.parametrize(("dtype", "top"), [(np.float32, 3e38), (np.float64, 1.7e308)])
def test_an_update_that_would_overflow_changes_nothing(kind, dtype, top):
    """The rate is so large that a weight must leave the range; the other tensor comes first and must stay too."""
    first = np.ones(shapes_of(kind, {"first": (9000,)})["first"], dtype)
    params = {"first": first, "w": np.array([[1, -top]], dtype)}
    optimizer = make(kind, params)
    before = bits(optimizer, params)
    grads = {"first": np.ones_like(first), "w": np.array([[0, 1e15]], dtype)}
    with pytest.raises(NonFiniteError) as caught:
        optimizer.step(grads, lr=top)
    birth = caught.value.birth
    assert birth.phase == "update"
    assert birth.tensor in params
    assert not np.isfinite(birth.value)
    assert before == bits(optimizer, params)


def test_a_second_moment_that_would_overflow_changes_nothing():
    params = {"w": np.ones((2, 3), np.float32)}
    optimizer = optim.AdamW(params)
    grads = {"w": np.ones((2, 3), np.float32)}
    grads["w"][1, 2] = 3e38
    before = bits(optimizer, params)
    with pytest.raises(NonFiniteError, match="exp_avg_sq") as caught:
        optimizer.step(grads)
    assert (caught.value.birth.phase, caught.value.birth.tensor, caught.value.birth.index) == ("update", "w", (1, 2))
    assert before == bits(optimizer, params)


def test_large_numbers_that_fit_are_not_refused():
    """The bound cannot prove these safe; the rehearsal can."""
    params = {"w": np.array([3e38, -3e38], np.float32)}
    optim.SGD(params, 1.0).step({"w": np.array([3e38, -3e38], np.float32)})
    assert (params["w"] == 0).all()
    params = {"w": np.ones(3, np.float32)}
    optimizer = optim.Adam(params, 0.1, eps=0.0)
    for _ in range(3):
        optimizer.step({"w": np.array([1e18, 1.0, -1e-18], np.float32)})
    np.testing.assert_allclose(params["w"], [0.7, 0.7, 1.3], rtol=1e-6)


def test_zero_gradient_with_eps_zero_is_refused_not_hidden():
    params = {"w": np.ones(3)}
    with pytest.raises(NonFiniteError) as caught:
        optim.Adam(params, eps=0.0).step({"w": np.zeros(3)})
    assert caught.value.birth.phase == "update"
    assert (params["w"] == 1).all()


@pytest.mark.parametrize("kind", MAKERS)
def test_a_bad_weight_is_found(kind):
    params = draw(0, np.float32, shapes_of(kind))
    optimizer = make(kind, params)
    params["w"][2, 3] = np.nan
    with pytest.raises(NonFiniteError, match="not finite before the update") as caught:
        optimizer.step(draw(1, np.float32, shapes_of(kind)))
    assert (caught.value.birth.phase, caught.value.birth.tensor, caught.value.birth.index) == ("update", "w", (2, 3))


@pytest.mark.parametrize("kind", MAKERS)
def test_rate_zero_keeps_every_bit_of_the_weights(kind):
    params = draw(0, np.float32, shapes_of(kind))
    params["w"][0, 0] = -0.0
    params["w"][0, 1] = 1e-45
    before = [a.tobytes() for a in params.values()]
    optimizer = make(kind, params)
    grads = draw(1, np.float32, shapes_of(kind))
    grads["w"][0] = [-0.0, -1.0, 0.0, 1.0, 1.0, 1.0, 1.0]
    for _ in range(3):
        optimizer.step(grads, lr=0)
    assert before == [a.tobytes() for a in params.values()]
    state = optimizer.state_dict()
    assert state["step"] == 3
    assert all(v[..., :].any() for k, v in state.items() if k.endswith(".w"))  # moments go on
    optimizer.step(grads)  # lr was for those calls only
    assert before[0] != params["w"].tobytes()


def test_scale_multiplies_the_gradient_inside():
    for kind, scale in (("sgd", 0.25), ("adamw", 0.25), ("sgd", 1e-40)):
        plain, scaled = np.ones(5, np.float32), np.ones(5, np.float32)
        grad = np.array([1, 2, 3, 4, 5], np.float32) * np.float32(1e37 if scale < 1e-30 else 1)
        one, other = (_core.Optimizer([(kind, 1.0, {})], ["w"], [p], [0.0], [0]) for p in (plain, scaled))
        one.step([(grad * np.float64(scale)).astype(np.float32)], 0.5)
        other.step([grad], 0.5, scale)
        np.testing.assert_allclose(scaled, plain, rtol=2e-7)
        assert (plain != 1).all()


def test_views_with_gaps_are_updated_in_place():
    base = np.arange(24, dtype=np.float64).reshape(4, 6)
    kept, plain = base.copy(), base[::2, 1::2].T.copy()
    a, b = optim.AdamW({"w": base[::2, 1::2].T}, 0.1), optim.AdamW({"w": plain}, 0.1)
    for seed in range(3):
        grad = draw(seed, np.float64, {"w": plain.shape})["w"]
        a.step({"w": np.asfortranarray(grad)})
        b.step({"w": grad})
    assert base[::2, 1::2].T.tobytes() == plain.tobytes()
    base[::2, 1::2] = kept[::2, 1::2]
    assert base.tobytes() == kept.tobytes()
