"""What parted two runs: their settings compared, and their updates done again side by side until two differ.

Everything is compared in the order in which an update uses it: its batch, weights and moments, then the result of every
operation. The first of each that differs is named.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

import numpy as np

from loopos import _core
from loopos.data.batches import IGNORE
from loopos.errors import CheckpointError
from loopos.files import durable
from loopos.files.checkpoint_folder import STATE
from loopos.precision import same_bits
from loopos.run.bundle import Bundle, Outcome
from loopos.run.computed import Computed

from .mismatch import Mismatch, first_mismatch, first_other_bit
from .replay import Repeater
from .rerun import Rerun

INCOMPARABLE = ("the data's ", "the model's ", "dtype ")  # how a sentence begins after which no operation is the same
IDLE = ("log_every", "eval_every", "save_every", "threads")  # settings that change no bit


def differing_settings(a: Path, b: Path) -> tuple[str, ...]:
    """A sentence for each setting that may change bits and is another one in the checkpoint ``b``; or for each of the
    two whose settings cannot be read."""
    states = [_state(path) for path in (a, b)]
    sentences = [f"state.json of {name} cannot be read" for name, state in zip("AB", states, strict=True) if not state]
    if sentences:
        return tuple(sentences)
    for part, what in (("config", "the model's "), ("settings", ""), ("data", "the data's ")):
        x, y = (state.get(part) if isinstance(state.get(part), Mapping) else {} for state in states)
        names = [name for name in {**x, **y} if name not in IDLE and x.get(name) != y.get(name)]
        sentences += [f"{what}{name} is {x.get(name)} in A, {y.get(name)} in B" for name in names]
    for name, what in (("dtype", "dtype"), ("isa", "the instruction set")):
        x, y = (state.get(name) for state in states)
        sentences += [f"{what} is {x} in A, {y} in B"] if x != y else []
    x, y = (Computed.recorded(state).products for state in states)
    sentences += [] if same_bits(x, y) else [f"what products were computed with is {x} in A, {y} in B"]
    return tuple(sentences)


def computed(path: Path) -> Computed | None:
    """What a checkpoint was computed with, where it is known."""
    state = _state(path)
    return Computed.recorded(state) if isinstance(state.get("isa"), str) else None


def unit_of(path: Path) -> float:
    """Of rounding, in the dtype of a checkpoint's weights."""
    found = _state(path).get("dtype")
    return float(np.finfo(found if found in ("float32", "float64") else "float32").eps)


def _state(path: Path) -> Mapping[str, Any]:
    try:
        state = durable.load_json(path / STATE)["state"]
    except (OSError, CheckpointError, LookupError, TypeError):
        return {}
    return state if isinstance(state, Mapping) else {}


def recompute(a: Rerun, b: Rerun, step: int, recorded: Sequence[Mapping[int, Mapping[str, Any]]]) -> tuple[str, ...]:
    """What comes of doing both runs again up to update ``step``, of which their records, by step, differ: whether this
    process computes what they ``recorded``, and in which update, which input and which operation they part here."""
    if step <= a.step:  # a log that no run of loopos.train wrote: its steps count from 1
        return (f"step {step} is not one that can be done again",)
    start = "its seed" if a.step == 0 else "its checkpoint"
    astray: dict[str, int] = {}  # the first step of a run whose recorded bits are not those computed here
    known: list[bool | None] = [None, None]
    inputs: str | None = None
    mismatch: Mismatch | None = None
    parted = 0  # the step of that operation
    while a.step < step:  # to the end, though the operation be found: the records are to bear it out
        bundles = None if mismatch else (a.bundle(), b.bundle())
        inputs = inputs or (first_input(*bundles) if bundles else None)
        updates = a.advance(), b.advance()
        known = [_recorded(update, lines.get(a.step, {})) for update, lines in zip(updates, recorded, strict=True)]
        for name, same in zip("AB", known, strict=True):
            if same is False:
                astray.setdefault(name, a.step)
        if start == "its seed" and a.step < step and astray:
            break  # it did not begin with these weights, or not with these settings
        if bundles is None:
            continue
        if not _same_passes(*bundles):
            return (f"done again here, step {a.step} differs in {inputs}",)
        if inputs or Outcome.of(updates[0]).differences(Outcome.of(updates[1])) or _states_apart(a, b):
            mismatch, parted = first_mismatch(*(Repeater(bundle) for bundle in bundles)), a.step
    sentences = [
        f"step {astray.get(name, a.step)} of {name}, done again here from {start}, "
        f"{'does not give' if name in astray else 'gives'} the bits that it recorded"
        for name, same in zip("AB", known, strict=True)
        if name in astray or same is not None
    ]
    elsewhere = f"{_NOT_ITS_SEED}, or {_ELSEWHERE}" if start == "its seed" and astray else _ELSEWHERE
    if start == "its seed" and (len(astray) == 2 or (astray and mismatch is not None)):
        return (*sentences, elsewhere)  # what is computed here is not what the runs did
    if inputs:
        sentences.append(f"done again here, both differ first in {inputs}")
    refused = [
        f"step {a.step} of {name}, done again here, is refused: op {birth.op} ({birth.phase}), {birth.tensor}"
        f"{list(birth.index)} = {birth.value!r} ({birth.cause})"
        for name, birth in zip("AB", (update.birth for update in updates), strict=True)
        if birth is not None
    ]
    if refused and mismatch is None:
        return (*sentences, *refused)
    if mismatch is not None:
        first = f"the first operation whose result differs, in step {parted}, is {mismatch}"
        sentences.append(first if inputs else f"done again here, both start step {parted} from the same bits; {first}")
    elif inputs:
        sentences.append(f"no operation up to step {a.step} gives another result for it")
    else:
        sentences.append(f"done again here, both are the same: {elsewhere}; LoopOS here computes on {_core.isa()}")
    return tuple(sentences)


_NOT_ITS_SEED = (
    "either a run whose bits are not given here did not begin with the weights of its seed, or its settings were "
    "changed when it was resumed"
)
_ELSEWHERE = (
    "a run whose bits are not given here was computed by another build, instruction set (LOOPOS_ISA chooses) or kind "
    "of products (LOOPOS_PRODUCTS), or a fault struck it once: planted, in memory or in the processor"
)


def _recorded(update: Any, line: Mapping[str, Any]) -> bool | None:
    """Whether ``line`` of bits.jsonl is what ``update`` gave; None when it does not tell."""
    outcome = Outcome.of(update)
    pairs = ((line.get("loss_hex"), outcome.loss), (line.get("grad_norm_hex"), outcome.grad_norm))
    agree = [recorded == here for recorded, here in pairs if isinstance(recorded, str)]
    return all(agree) if agree else None


def _same_passes(a: Bundle, b: Bundle) -> bool:
    """Whether both compute the same tensors: a micro-batch without targets is left out."""

    def passes(bundle: Bundle) -> list[Any]:
        return [(x.shape, y.shape, len(more), bool(np.any(y != IGNORE))) for x, y, *more in bundle.batches]

    return passes(a) == passes(b)


def _states_apart(a: Rerun, b: Rerun) -> bool:
    states = [{**run.model.parameters(), **run.optimizer.state_dict()} for run in (a, b)]
    arrays = [{n: v for n, v in state.items() if isinstance(v, np.ndarray)} for state in states]
    return _apart(*arrays) is not None


def first_input(a: Bundle, b: Bundle) -> str | None:
    """The first thing in which two updates differ before anything is computed, in the order in which they use it; None
    when all is the same. The settings of the optimizer are not among it: see :class:`Mismatch`."""
    if a.config != b.config or a.dtype != b.dtype:
        return "the model's configuration"
    if len(a.batches) != len(b.batches):
        return "the number of micro-batches"
    for micro, (x, y) in enumerate(zip(a.batches, b.batches, strict=True)):
        if len(x) != len(y):
            return f"the documents of micro-batch {micro}, which only {'A' if len(x) > len(y) else 'B'} has"
        for what, left, right in zip(("ids", "targets", "documents"), x, y, strict=False):
            if left.shape != right.shape:
                return f"the shape of {what} of micro-batch {micro}: {left.shape} in A, {right.shape} in B"
            if (place := _apart({what: left}, {what: right})) is not None:
                return f"the batch: micro-batch {micro}, {place}"
    for what, left, right in (("weight", a.weights, b.weights), ("moment", a.moments, b.moments)):
        if (place := _apart(left, right)) is not None:
            return f"a {what} before the step: {place}"
    return None


def _apart(a: Mapping[str, np.ndarray], b: Mapping[str, np.ndarray]) -> str | None:
    """The first element whose bits differ; None when there is none. Names only one side has are the first of all."""
    if strange := sorted(set(a) ^ set(b)):
        return f"{strange[0]}, which only {'A' if strange[0] in a else 'B'} has"
    for name, x in a.items():
        y = b[name]
        if x.dtype != y.dtype or x.shape != y.shape:
            return f"{name}: {x.dtype} {x.shape} in A, {y.dtype} {y.shape} in B"
        if (flat := first_other_bit(x, y)) is not None:
            index = tuple(int(i) for i in np.unravel_index(flat, x.shape))
            return f"{name}{list(index)} = {x[index].item()!r} in A, {y[index].item()!r} in B"
    return None
