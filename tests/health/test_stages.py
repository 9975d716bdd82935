"""A computation outside the engine: each planted fault is named by its stage and cause, a sound one is not."""

from __future__ import annotations

import numpy as np
import pytest

from loopos.errors import CAUSES, Birth
from loopos.health.stages import examine

RNG = np.random.default_rng(0)


def softmax(logits, shift):
    with np.errstate(all="ignore"):
        shifted = logits - shift
        e = np.exp(shifted)
        total = e.sum(1, keepdims=True)
        stages = {"logits": logits, "shift": np.full((len(logits), 1), shift, logits.dtype), "shifted": shifted, "e": e}
        stages |= {"total": total, "quotient": e / total}
    made = {"shift": ("max", "logits"), "shifted": ("subtract", "logits", "shift"), "e": ("exp", "shifted")}
    return stages, made | {"total": ("sum", "e"), "quotient": ("divide", "e", "total")}


@pytest.mark.parametrize(("dtype", "large"), [("float32", 88.8), ("float64", 709.9)])
def test_exp_that_overflows_is_named_before_what_follows_from_it(dtype, large):
    logits = RNG.normal(size=(4, 5)).astype(dtype)
    logits[2, 3] = large
    found = examine(*softmax(logits, 0))
    born = found.birth
    assert (born.op, born.tensor, born.index, born.value) == ("exp", "e", (2, 3), np.inf)
    assert born.cause_class == "exp overflow"
    assert born.operands == {"shifted": float(logits[2, 3])}
    assert dtype in born.cause
    assert born.advice == "subtract the row's maximum before exp"
    assert found.causes == ("exp overflow",)
    assert "exp overflows above" in str(found)
    assert examine(*softmax(logits, logits.dtype.type(large))).causes == ()


def one(op, *operands, dtype=np.float32):
    """The examination of one operation on one element beside a sound one."""
    arrays = {f"x{i}": np.array([1.0, value], dtype) for i, value in enumerate(operands)}
    a, b = (*arrays.values(), None)[:2]
    compute = {"log": np.log, "sqrt": np.sqrt, "divide": np.divide, "multiply": np.multiply, "add": np.add}
    compute |= {"subtract": np.subtract}
    with np.errstate(all="ignore"):
        result = compute[op](a) if b is None else compute[op](a, b)
    return examine(
        {**arrays, "y": result}, {"x1": ("given",), "y": (op, *arrays)} if b is not None else {"y": (op, "x0")}
    )


@pytest.mark.parametrize(
    ("op", "operands", "cause"),
    [
        ("log", (0.0,), "log 0"),
        ("sqrt", (-1e-9,), "negative root"),
        ("divide", (0.0, 0.0), "0/0"),
        ("divide", (1.0, 0.0), "product overflow"),
        ("divide", (1e30, 1e-30), "product overflow"),
        ("multiply", (1e20, 1e20), "product overflow"),
        ("add", (3e38, 3e38), "sum overflow"),
        ("subtract", (-3e38, 3e38), "sum overflow"),
    ],
)
def test_each_operation_has_its_cause(op, operands, cause):
    found = one(op, *operands)
    assert (found.birth.cause_class, found.birth.index, found.birth.tensor) == (cause, (1,), "y")
    assert cause in CAUSES


def test_the_log_of_a_negative_number_has_words_and_advice_of_its_own():
    """CAUSES has no class for it."""
    born = one("log", -1.0).birth
    assert born.cause == "unknown: the log of a negative number is not defined, and x0 is -1"
    assert born.operands == {"x0": -1.0}
    assert born.advice == "look at why it is below 0: what a log is taken of must be above 0"


@pytest.mark.parametrize(
    ("op", "x", "cause"),
    [
        ("multiply", 1e20, "product overflow: x 1e+20 times x 1e+20 is 1e+40, beyond the largest float32, 3.4e+38"),
        (
            "add",
            3e38,
            "sum overflow: x 3e+38 and x 3e+38: together they are 6e+38, beyond the largest float32, 3.4e+38",
        ),
        ("divide", 0.0, "0/0: x over x, which are both 0"),
    ],
)
def test_a_stage_may_be_both_operands(op, x, cause):
    x = np.array([1, x], np.float32)
    with np.errstate(all="ignore"):
        born = examine({"x": x, "y": getattr(np, op)(x, x)}, {"y": (op, "x", "x")}).birth
    assert (born.cause, born.operands) == (cause, {"x": float(x[1])})


def test_a_difference_is_called_one():
    assert "x0 -3e+38 and x1 3e+38: the first less the second is -6e+38" in one("subtract", -3e38, 3e38).birth.cause


def test_a_number_on_its_own_that_is_not_finite_is_to_blame():
    born = examine({"x": np.ones(2), "y": np.full(2, np.nan)}, {"y": ("floor", "x", np.nan)}).birth
    assert born.cause == "input not finite: it was made of nan, which is not finite"


def test_a_floor_of_finite_numbers_is_not_to_blame():
    born = examine({"x": np.array([1.0, 2.0]), "y": np.array([1.0, np.nan])}, {"y": ("floor", "x", 1e-9)}).birth
    assert born.cause.startswith("unknown: a floor gives the larger of x 2 and 1e-09, which is finite")


def test_an_operand_whose_element_is_not_known_is_named():
    stages = {"x": np.ones((2, 3)), "y": np.array([1.0, np.inf])}
    assert "which element of x went into this" in examine(stages, {"y": ("exp", "x")}).birth.cause


def test_single_numbers_are_stages_too():
    with np.errstate(over="ignore"):
        born = examine({"x": np.float32(200), "y": np.exp(np.float32(200))}, {"y": ("exp", "x")}).birth
    assert (born.index, born.cause_class) == ((), "exp overflow")


def test_a_sum_an_input_and_an_operation_that_is_not_known():
    x = np.array([[3e38, 3e38], [1, 2]], np.float32)
    with np.errstate(over="ignore"):
        found = examine({"x": x, "s": x.sum(1)}, {"s": ("sum", "x")})
    assert (found.birth.cause_class, found.birth.index) == ("sum overflow", (0,))
    bad = np.array([1.0, np.nan])
    assert examine({"x": bad, "y": bad * 2}).birth.cause_class == "input not finite"
    found = examine({"x": np.ones(2), "y": bad}, {"y": ("fft", "x")})
    assert (found.birth.op, found.birth.cause_class) == ("fft", "unknown")
    planted = examine({"x": np.ones(2), "y": np.array([2.0, np.inf])}, {"y": ("exp", "x")}).birth
    assert planted.cause.startswith("unknown: what it was made of gives a finite result")


def test_complex_numbers_count_by_their_magnitude():
    x = np.array([1 + 1j, complex(np.inf, 1)])
    born = examine({"x": np.ones(2, complex), "y": x}, {"y": ("product", "x")}).birth
    assert isinstance(born, Birth)
    assert (born.index, born.value) == ((1,), np.inf)
    assert np.isnan(examine({"y": np.array([complex(np.nan, 0)])}).birth.value)


@pytest.mark.parametrize(
    ("op", "operands", "cause"),
    [
        ("divide", (1.0, "x"), "product overflow: |1.0| 1 over |x| 0 is beyond the largest float64"),
        ("divide", ("x", "x"), "0/0: |x| over |x|, which are both 0"),
        ("multiply", ("big", 1e300), "product overflow: |big| 1.41e+200 times |1e+300| 1e+300 is 1.41e+500"),
        ("exp", ("big",), "unknown: it was made of complex numbers that are finite, |big| = 1.41e+200: their magn"),
    ],
)
def test_complex_operands_count_by_their_magnitude(op, operands, cause):
    stages = {"x": np.zeros(1, complex), "big": np.array([1e200 + 1e200j]), "y": np.array([complex(np.nan, np.nan)])}
    assert examine(stages, {"big": ("given",), "y": (op, *operands)}).birth.cause.startswith(cause)


def test_a_floor_under_complex_numbers_acts_on_their_magnitude():
    stages = {"x": np.array([1 + 0j, 1e-12j]), "y": np.array([1, 1e-9], complex)}
    (floor,) = examine(stages, {"y": ("floor", "x", 1e-9)}).findings
    assert floor.evidence == ("x[1] = 1e-12, below 1e-09",)


def normaliser(traces, floor=1e-9, total=144.0):
    traces = np.array(traces)[:, None]
    mixed = np.full((len(traces), 3), 0.4)
    clamped = np.maximum(traces, floor)
    stages = {"mixed": mixed, "trace": traces, "clamped": clamped, "factor": total / clamped}
    stages["blend"] = mixed * stages["factor"]
    made = {"trace": ("trace", "mixed"), "clamped": ("floor", "trace", floor), "factor": ("divide", total, "clamped")}
    return stages, made | {"blend": ("multiply", "mixed", "factor")}


def test_a_floor_that_decides_is_a_finding_though_all_is_finite():
    found = examine(*normaliser([50.0, -3.0, 60.0, 1e-12]))
    assert found.birth is None
    assert found.causes == ("eps-floor", "scale-jump")
    floor, jump = found.findings
    assert floor.confidence == "certain"
    assert "the floor 1e-09 decides 2 of 4 elements of trace: 1 of them are negative, the least is -3" in floor.says
    assert "factor then knows nothing of trace there" in floor.says
    assert floor.evidence == ("trace[1, 0] = -3.0, below 1e-09", "trace[3, 0] = 1e-12, below 1e-09")
    assert jump.says.startswith("factor has a root mean square of 1.02e+11")
    assert examine(*normaliser([50.0, 3.0, 60.0, 1.0])).causes == ()


@pytest.mark.parametrize(("before", "after"), [(1e200, 1e-200), (1e-200, 1e200)])
def test_sizes_whose_ratio_is_beyond_float64_are_compared(before, after):
    stages = {"x": np.full(3, before), "y": np.full(3, after)}
    (jump,) = examine(stages, {"y": ("multiply", "x", 1.0)}).findings
    assert jump.cause == "scale-jump"
    assert f"about 1e{'-' if after < before else '+'}400 times that of x" in jump.says


def test_complex_numbers_whose_magnitude_is_beyond_their_range_have_a_size():
    stages = {"x": np.full(2, 3e38 + 3e38j, np.complex64), "y": np.ones(2, np.complex64)}
    (jump,) = examine(stages, {"y": ("multiply", "x", 1.0)}).findings
    assert jump.evidence == ("x: 4.24e+38",)


def chain(gate, layers=32):
    signal = [RNG.normal(size=(16, 24)).astype(np.float32)]
    for layer in range(layers):
        signal.append(signal[-1] * np.float32(gate(layer)))
    return {f"layer {i}": x for i, x in enumerate(signal)}


def test_a_signal_that_dies_or_explodes_in_a_chain():
    found = examine(chain(lambda i: 0.75))
    assert found.causes == ("signal-dies",)
    assert "0.750 a block" in found.findings[0].says
    assert found.findings[0].evidence == ("every block alike: 0.75 to 0.75 times what it was given",)
    found = examine(chain(lambda i: 1e-4 if i == 7 else 1.0))
    assert found.findings[0].evidence == ("layer 8 is 0.0001 times layer 7, the least of all",)
    assert examine(chain(lambda i: 0.0 if i == 7 else 1.0)).causes == ("signal-dies",)
    assert examine(chain(lambda i: 1.5)).causes == ("signal-explodes",)
    assert examine(chain(lambda i: 1.0)).causes == ()
    assert "keeps its size" in str(examine(chain(lambda i: 1.0)))


def test_inputs_of_a_stage_are_no_chain():
    """An input of zeros is no signal that died."""
    stages = {"x": np.ones((4, 8)), "w": np.eye(8), "b": np.zeros(8)}
    stages["y"] = stages["x"] @ stages["w"] + stages["b"]
    assert examine(stages, {"y": ("linear", "x", "w", "b")}).causes == ()


def test_every_stage_has_its_facts():
    facts = examine({"x": np.array([3.0, -4.0, 0.0]), "empty": np.zeros((0, 2))}).facts
    assert [row.tensor for row in facts] == ["x", "empty"]
    assert (facts[0].smallest, facts[0].largest, facts[0].nonfinite) == (-4.0, 3.0, 0)


@pytest.mark.parametrize("made", [{"y": ("exp", "z")}, {"x": ("exp", "y")}, {"z": ("exp", "x")}])
def test_operands_that_are_no_earlier_stages_are_refused(made):
    with pytest.raises(ValueError, match=r"^examine: "):
        examine({"x": np.ones(2), "y": np.ones(2)}, made)


@pytest.mark.parametrize(
    ("recipe", "says"),
    [
        (("add", "x", "b", "x"), "add takes 2 operands, got 3 for 'y'"),
        (("exp",), "exp takes 1 operand, got 0"),
        (("floor", "x", "b"), "a floor takes one stage and one real number"),
        (("floor", 1.0, 2.0), "a floor takes one stage and one real number"),
        (("floor", "x", 1j), "a floor takes one stage and one real number"),
        (("exp", None), "something of type NoneType, which is neither"),
        (("multiply", "x", np.ones(2)), "type ndarray, .* give an array as a stage"),
        (("multiply", "x", 10**400), "type int, .* number that float64 holds"),
        ("exp", r"must be \(operation, operand, ...\), got 'exp'"),
        ((), r"must be \(operation, operand, ...\)"),
    ],
)
@pytest.mark.parametrize("value", [1.0, np.inf])
def test_recipes_that_cannot_be_are_refused_whatever_the_numbers(recipe, says, value):
    with pytest.raises(ValueError, match=f"^examine: .*{says}"):
        examine({"x": np.ones(2), "b": np.ones(2), "y": np.full(2, value)}, {"b": ("given",), "y": recipe})


def test_a_stage_of_no_numbers_is_refused():
    with pytest.raises(ValueError, match=r"^examine: the stage 'x' must be an array of numbers, got dtype object"):
        examine({"x": np.array([1, "a"], object)})
