"""A computation outside the engine, looked at stage by stage: where a number first went bad, and how that came about.

    from loopos.health.stages import examine

    found = examine(
        {"logits": x, "exp": e, "sum": total, "quotient": p},
        made={"exp": ("exp", "logits"), "sum": ("sum", "exp"), "quotient": ("divide", "exp", "sum")},
    )
    found.birth       # exp overflow: exp(192.8) is ..., in exp[3, 7]

The causes are those of the engine's own births; a floor that decided a number, and a signal that dies or explodes on
its way through a chain of blocks, are findings although every number is finite.
"""

from __future__ import annotations

import itertools
import math
from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from numbers import Complex, Real
from typing import Any

import numpy as np

from loopos.births.advice import advice
from loopos.births.arithmetic import Evidence, Numbers, short
from loopos.errors import Birth

from .doctor.check_forward import judge_growth
from .doctor.report import FAIL
from .explain.findings import CERTAIN, LIKELY, Finding
from .replay.replay import TensorFacts

JUMP = 1e3  # of the root mean square, from what a stage was made of to the stage
Recipes = Mapping[str, tuple[Any, ...]]
Operands = Sequence[tuple[str, Any]]  # names and elements; a name may come twice, as in x times x


@dataclass(frozen=True)
class Examination:
    """birth: of the first number that is not finite, None when all are; findings: what else is wrong, in the order of
    the stages; facts: a line for each stage."""

    birth: Birth | None
    findings: tuple[Finding, ...]
    facts: tuple[TensorFacts, ...]

    @property
    def causes(self) -> tuple[str, ...]:
        """The class of the birth's cause, if there is one, and the keys of the findings."""
        return (*([] if self.birth is None else [self.birth.cause_class]), *(each.cause for each in self.findings))

    def __str__(self) -> str:
        said = [] if self.birth is None else [f"{self.birth}. What to do: {self.birth.advice}"]
        said += [str(finding) for finding in self.findings]
        return "\n".join(said or ["every number is finite, no floor acts, and the signal keeps its size"])


def examine(stages: Mapping[str, np.ndarray], made: Recipes | None = None) -> Examination:
    """Look at the results of a computation in the order in which they came about.

    stages: arrays by name, in that order; of complex numbers the magnitude counts.
    made: {stage: (operation, operand, ...)}: how a stage was computed from earlier ones (their names) and from numbers,
        element by element as numpy broadcasts. Operations: "exp", "log", "sqrt", "add", "subtract", "multiply",
        "divide", "floor" (the larger of a stage and a real number); any other word is a name only. Stages that are not
        in ``made``, and of which none in it is made, form a chain, each made of the one before: blocks through which a
        signal of one width passes.

    ValueError for a stage that is no array of numbers, an operand that is neither an earlier stage nor a number, and
    another count of operands than the operation takes."""
    arrays = {name: np.asarray(array) for name, array in stages.items()}
    made = dict(made or {})
    _check(arrays, made)
    facts = tuple(TensorFacts.of("stage", name, _real(array)) for name, array in arrays.items())
    birth = next(_births(arrays, made), None)
    sound = list(arrays)[: None if birth is None else list(arrays).index(birth.tensor)]
    known = {name: arrays[name] for name in sound}
    findings = [*_floors(known, made), *_jumps(known, made), *_growth(known, made)]
    return Examination(birth, tuple(findings), facts)


def _check(arrays: Mapping[str, np.ndarray], made: Recipes) -> None:
    names = list(arrays)
    for name, array in arrays.items():
        if array.dtype.kind not in "biufc":
            raise ValueError(f"examine: the stage {name!r} must be an array of numbers, got dtype {array.dtype}")
    if strange := [name for name in made if name not in arrays]:
        raise ValueError(f"examine: made names {', '.join(map(repr, strange))}, and there are only the stages {names}")
    for name, recipe in made.items():
        if not isinstance(recipe, (tuple, list)) or not recipe or not isinstance(recipe[0], str):
            raise ValueError(f"examine: made[{name!r}] must be (operation, operand, ...), got {recipe!r}")
        op, *operands = recipe
        if len(operands) != _COUNTS.get(op, len(operands)):
            expected = f"{_COUNTS[op]} operand{'s' if _COUNTS[op] > 1 else ''}"
            raise ValueError(f"examine: {op} takes {expected}, got {len(operands)} for {name!r}")
        for operand in operands:
            if isinstance(operand, str):
                if operand not in names[: names.index(name)]:
                    raise ValueError(f"examine: {name!r} is made of {operand!r}, which is no stage before it")
            elif not _is_number(operand):
                kind = type(operand).__name__
                raise ValueError(
                    f"examine: {name!r} is made of something of type {kind}, which is neither a stage's name nor a "
                    "number that float64 holds; give an array as a stage of its own"
                )
        if op == "floor" and sorted(isinstance(x, str) + 2 * isinstance(x, Real) for x in operands) != [1, 2]:
            raise ValueError(f"examine: a floor takes one stage and one real number, got {operands!r} for {name!r}")


def _is_number(operand: Any) -> bool:
    if not isinstance(operand, Complex):
        return False
    try:
        complex(operand)
    except OverflowError:  # an integer beyond float64
        return False
    return True


def _real(array: np.ndarray) -> np.ndarray:
    with np.errstate(over="ignore"):  # a magnitude beyond the range is inf
        return np.abs(array) if np.iscomplexobj(array) else array


def _births(arrays: Mapping[str, np.ndarray], made: Recipes) -> Iterator[Birth]:
    for name, array in arrays.items():
        finite = np.isfinite(array)
        if finite.all():
            continue
        index = tuple(int(i) for i in np.unravel_index(int(np.argmin(finite)), array.shape))
        op, *operands = made.get(name, ("input" if name == next(iter(arrays)) else "block",))
        values = [(_name(x), _at(arrays, x, index, array.shape)) for x in operands]
        value = complex(array[index]) if np.iscomplexobj(array) else float(array[index])
        value = value if isinstance(value, float) else abs(value) if math.isinf(abs(value)) else math.nan
        evidence = _evidence(op, values, array, value)
        below_0 = op == "log" and any(x < 0 for x in evidence.operands.values())
        yield Birth(
            step=None,
            phase="forward",
            layer=None,
            op=op,
            tensor=name,
            index=index,
            value=value,
            cause=f"{evidence.kind}: {evidence.words}",
            operands=evidence.operands,
            advice=_POSITIVE if below_0 else advice(evidence.kind, op, name),
        )


def _name(operand: Any) -> str:
    return operand if isinstance(operand, str) else f"{operand!r}"


def _at(arrays: Mapping[str, np.ndarray], operand: Any, index: tuple[int, ...], shape: tuple[int, ...]) -> Any:
    """The operand's element that went into this one, a float or a complex; None where shapes do not say which."""
    if isinstance(operand, str):
        if not _spreads(arrays[operand].shape, shape):
            return None
        operand = np.broadcast_to(arrays[operand], shape)[index]
    return float(operand) if isinstance(operand, Real) or not np.iscomplexobj(operand) else complex(operand)


def _evidence(op: str, values: Operands, array: np.ndarray, value: float) -> Evidence:
    numbers = Numbers({}, str(array.real.dtype) if array.dtype.kind in "fc" else "float64", value)
    if op == "input":
        return Evidence("input not finite", "it is in the first stage, before anything was computed", {})
    known = [(name, x if isinstance(x, complex) else np.longdouble(x)) for name, x in values if x is not None]
    operands = {name: float(x) for name, x in known if not isinstance(x, complex)}
    bad = [name for name, x in known if not np.isfinite(x)]
    if bad:  # every stage before it is finite, so it is a number
        return Evidence("input not finite", f"it was made of {bad[0]}, which is not finite", operands)
    if op in _ARITHMETIC and len(known) < len(values):
        lost = next(name for name, x in values if x is None)
        why = f"every stage before it is finite; by its shape it cannot be told which element of {lost} went into this"
        return numbers.unknown(why, operands)
    if op in _ARITHMETIC and any(isinstance(x, complex) for _, x in known):
        return _of_complex(op, numbers, known)
    if op in _ARITHMETIC:
        exact = "what it was made of gives a finite result: it is not of this arithmetic"
        return _ARITHMETIC[op](numbers, known) or numbers.unknown(exact, operands)
    if op == "sum":
        return Evidence("sum overflow", f"what it adds up is finite, the sum is {numbers.beyond()}", {})
    return numbers.unknown(f"every stage before it is finite; how {op} works is not known here", operands)


def _of_complex(op: str, n: Numbers, x: Operands) -> Evidence:
    """Products and quotients have the magnitude of their operands' product and quotient."""
    sizes = [(f"|{name}|", np.hypot(np.longdouble(value.real), np.longdouble(value.imag))) for name, value in x]
    found = _ARITHMETIC[op](n, sizes) if op in ("multiply", "divide") else None
    if found is not None and found.kind != "unknown":
        return found
    said = " and ".join(f"{name} = {short(size)}" for name, size in sizes)
    why = (
        f"it was made of complex numbers that are finite, {said}: their magnitudes do not tell how {op} left the range"
    )
    return n.unknown(why, {name: float(size) for name, size in sizes})


def _exp(n: Numbers, x: Operands) -> Evidence | None:
    ((name, value),), limit = x, np.log(n.limit)
    words = f"exp({short(value)}) is {n.beyond()}: exp overflows above {float(limit):.2f}"
    return Evidence("exp overflow", words, {name: float(value)}) if value > limit else None


def _log(n: Numbers, x: Operands) -> Evidence | None:
    ((name, value),) = x
    if value < 0:
        words = f"the log of a negative number is not defined, and {name} is {short(value)}"
        return n.unknown(words, {name: float(value)})
    return Evidence("log 0", f"the log of {name}, which is 0", {name: 0.0}) if value == 0 else None


def _sqrt(n: Numbers, x: Operands) -> Evidence | None:
    ((name, value),) = x
    words = f"the root of {name}, which is {short(value)}"
    return Evidence("negative root", words, {name: float(value)}) if value < 0 else None


def _divide(n: Numbers, x: Operands) -> Evidence | None:
    (over, a), (under, b) = x
    operands = {over: float(a), under: float(b)}
    if b == 0 and a == 0:
        return Evidence("0/0", f"{over} over {under}, which are both 0", operands)
    if b == 0 or abs(a / b) > n.limit:
        return Evidence("product overflow", f"{over} {short(a)} over {under} {short(b)} is {n.beyond()}", operands)
    return None


def _floor(n: Numbers, x: Operands) -> Evidence:
    words = " and ".join(name if name == short(value) else f"{name} {short(value)}" for name, value in x)
    finite = f"a floor gives the larger of {words}, which is finite: it is not of this arithmetic"
    return n.unknown(finite, {name: float(value) for name, value in x})


_POSITIVE = "look at why it is below 0: what a log is taken of must be above 0"
_ARITHMETIC: dict[str, Callable[[Numbers, Operands], Evidence | None]] = {
    "exp": _exp,
    "log": _log,
    "sqrt": _sqrt,
    "divide": _divide,
    "multiply": lambda n, x: n.product(x),
    "add": lambda n, x: n.addition(x, x[0][1] + x[1][1]),
    "subtract": lambda n, x: n.addition(x, x[0][1] - x[1][1], "the first less the second is"),
    "floor": _floor,
}
_COUNTS = {op: 1 if op in ("exp", "log", "sqrt") else 2 for op in _ARITHMETIC}


def _floors(arrays: Mapping[str, np.ndarray], made: Recipes) -> Iterator[Finding]:
    """Elements that a floor put in the place of what was computed."""
    for name, (op, *operands) in made.items():
        if op != "floor" or name not in arrays:
            continue
        guarded = next(x for x in operands if isinstance(x, str))
        floor = next(float(x) for x in operands if not isinstance(x, str))
        shape, values = arrays[guarded].shape, _real(arrays[guarded]).reshape(-1)
        below = np.flatnonzero(values < floor)
        if below.size == 0:
            continue
        least = float(values[below].min())
        negative = int((values[below] < 0).sum())
        users = [user for user, (_, *of) in made.items() if name in of]
        yield Finding(
            "eps-floor",
            CERTAIN,
            f"the floor {floor:g} decides {below.size} of {values.size} elements of {guarded}: {negative} of them are "
            f"negative, the least is {short(least)}"
            + (f". {' and '.join(users)} then knows nothing of {guarded} there, but the floor" if users else ""),
            tuple(f"{guarded}{_index_of(at, shape)} = {float(values[at])!r}, below {floor:g}" for at in below[:3]),
            "a quantity that can be negative, or 0, is no divisor: look at why it is (an indefinite matrix in place of "
            "a covariance, a constant row); a floor hides it and sets the scale",
        )


def _index_of(at: int, shape: tuple[int, ...]) -> list[int]:
    return [int(i) for i in np.unravel_index(at, shape)]


def _jumps(arrays: Mapping[str, np.ndarray], made: Recipes) -> Iterator[Finding]:
    """A stage whose size is far from that of all it was made of element by element."""
    sizes = {name: _rms(array) for name, array in arrays.items()}
    for name in (name for name in made if name in arrays and made[name][0] not in ("exp", "log")):
        of = [x for x in made[name][1:] if isinstance(x, str) and _spreads(arrays[x].shape, arrays[name].shape)]
        before = {x: sizes[x] for x in of if sizes[x] > 0}
        if not before or sizes[name] == 0:
            continue
        apart = {x: math.log(sizes[name]) - math.log(size) for x, size in before.items()}  # a ratio may leave the range
        nearest = min(before, key=lambda x: abs(apart[x]))
        far = apart[nearest]
        if abs(far) > math.log(JUMP):
            times = f"{math.exp(far):.3g}" if abs(far) < 700 else f"about 1e{far / math.log(10):+.0f}"
            yield Finding(
                "scale-jump",
                LIKELY,
                f"{name} has a root mean square of {sizes[name]:.3g}, {times} times that of {nearest}, the nearest "
                "of what it was made of",
                tuple(f"{x}: {size:.3g}" for x, size in before.items()),
                f"look at what {name} was multiplied or divided by",
            )


def _spreads(shape: tuple[int, ...], over: tuple[int, ...]) -> bool:
    """Whether numpy broadcasts an array of the one shape to the other: it was not summed up on the way."""
    try:
        return np.broadcast_shapes(shape, over) == over
    except ValueError:
        return False


def _growth(arrays: Mapping[str, np.ndarray], made: Recipes) -> Iterator[Finding]:
    """What a chain of blocks makes of the size of a signal, by the rule of the doctor's check."""
    used = {operand for _, *operands in made.values() for operand in operands}
    chain = [name for name in arrays if name not in made and name not in used]
    if len(chain) < 3 or len({arrays[name].shape[-1:] for name in chain}) > 1:
        return
    sizes = [_rms(arrays[name]) for name in chain]
    check = judge_growth("growth", sizes)
    if check.verdict != FAIL:
        return
    rates = [b / a if a > 0 else 1.0 for a, b in itertools.pairwise(sizes)]
    dies = not sizes[-1] > sizes[0]
    worst = min(range(len(rates)), key=lambda i: rates[i] if dies else -rates[i])
    low, high = min(rates), max(rates)
    alike = low > 0 and high < 1.5 * low
    where = f"{chain[worst + 1]} is {rates[worst]:.4g} times {chain[worst]}, the {'least' if dies else 'most'} of all"
    yield Finding(
        "signal-dies" if dies else "signal-explodes",
        CERTAIN,
        f"{check.measured}; expected {check.expected}",
        (f"every block alike: {low:.4g} to {high:.4g} times what it was given" if alike else where,),
        check.advice,
    )


def _rms(array: np.ndarray) -> float:
    parts = [array.real, array.imag] if np.iscomplexobj(array) else [array]  # a magnitude may leave the range
    sizes = np.abs(np.concatenate([part.reshape(-1) for part in parts])).astype(np.float64)
    top = float(sizes.max(initial=0.0))
    return top * float(np.sqrt(len(parts) * np.mean(np.square(sizes / top)))) if top > 0 else 0.0
