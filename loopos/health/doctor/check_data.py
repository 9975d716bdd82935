"""What the doctor asks of the data: batches that can be made again, labels that can be learned and are the right ones.

No model is needed here: only ids (B, T) and targets (B, T), of which -100 is not scored.
"""

from __future__ import annotations

import numpy as np

from loopos.data.batches import IGNORE, TokenStream

from .patient import Patient
from .report import FAIL, OK, WARN, Check, skipped

Pairs = list[tuple[np.ndarray, np.ndarray]]
BATCHES = (8, 5)  # looked at, in the full and the quick round
MASKED = 0.9  # a larger share of targets that are not scored is remarkable
SHIFTS = (1, 0, 2, -1, 3, -2)
AGREES, MOSTLY = 0.99, 0.5  # shares of targets that are the token at a shift


def check_data(patient: Patient, total: int | None = None) -> tuple[Pairs, list[Check]]:
    """The batches that were looked at, and the checks of the data, in order. total: updates of the run."""
    count = BATCHES[patient.quick]
    if (steps := getattr(patient.source, "steps_per_epoch", None)) is not None:
        count = max(1, min(count, steps))
    pairs = [patient.source.batch(step, 0) for step in range(count)]
    refetched = patient.source.batch(0, 0)
    later = None
    if (
        steps is not None
        and total is not None
        and total >= steps + count
        and not isinstance(patient.source, TokenStream)
    ):
        later = [patient.source.batch(steps + step, 0) for step in range(count)]
    if getattr(patient.config, "labels", ()):  # one class a row, which is no id
        return pairs, [repeatable(pairs, refetched, later), labels(pairs, most=1.0)]
    return pairs, [repeatable(pairs, refetched, later), labels(pairs), alignment(pairs)]


def repeatable(pairs: Pairs, refetched: tuple[np.ndarray, np.ndarray], later: Pairs | None = None) -> Check:
    """batch(step, micro) is a pure function; and it does not give one batch, or a few, for ever. later: the batches at
    the same places of the next epoch."""
    name, expected = "batches", "batch(0, 0) twice the same, other steps other batches"
    if any(a.shape != b.shape or (a != b).any() for a, b in zip(pairs[0], refetched, strict=True)):
        advice = "make batch(step, micro) depend on its arguments alone: seed a generator with them, keep no cursor"
        return Check(name, "batch(0, 0) asked twice gave two batches", expected, FAIL, advice)
    kinds = [(ids.tobytes(), targets.tobytes()) for ids, targets, *_ in pairs]
    different = len(set(kinds))
    measured = f"batch(0, 0) asked twice gave the same; {different} of {len(pairs)} batches are different"
    if len(pairs) > 1 and different == 1:
        advice = "the argument step is not used, unless one batch is meant to be learned by heart"
        return Check(name, measured, expected, WARN, advice)
    if (
        len(pairs) > 1
        and 2 * different <= len(pairs) + 1
        and all(kinds[i] == kinds[i - different] for i in range(different, len(pairs)))
    ):
        advice = f"{different} batches come again and again: is that all there is to learn?"
        return Check(name, measured, expected, WARN, advice)
    again = later and [(ids.tobytes(), targets.tobytes()) for ids, targets, *_ in later]
    if len(pairs) > 1 and again == kinds:
        advice = "every epoch has the same batches in the same order: shuffle by step // len(data)"
        return Check(name, f"{measured}; the next epoch begins with the same ones", expected, WARN, advice)
    return Check(name, measured, expected, OK)


def labels(pairs: Pairs, most: float = MASKED) -> Check:
    """How many targets count. That they are in range was checked when the batches were made. most: share of targets
    that may be masked."""
    name, expected = "labels", "something to learn in every row" + (f", at most {most:.0%} masked" if most < 1 else "")
    targets = [pair[1] for pair in pairs]
    total = sum(part.size for part in targets)
    valid = sum(int(np.count_nonzero(part != IGNORE)) for part in targets)
    rows = sum(len(part) for part in targets)
    empty_rows = sum(int(np.count_nonzero((part == IGNORE).all(1))) for part in targets)
    empty = sum(bool((part == IGNORE).all()) for part in targets)
    kinds = len(np.unique(np.concatenate([part[part != IGNORE] for part in targets])))
    masked = 1 - valid / total if total else 1.0
    measured = (
        f"{valid} of {total} targets count ({masked:.1%} masked), {empty_rows} of {rows} rows have none, "
        f"{kinds} different labels"
    )
    if valid == 0:
        advice = f"every target is {IGNORE}: look at what masks them (a template, a truncation that cuts the answer)"
        return Check(name, measured, expected, FAIL, advice)
    if kinds == 1:
        return Check(name, measured, expected, WARN, "one label alone is learned by a bias; nothing else need be")
    if empty or masked > most or 2 * empty_rows > rows:
        advice = f"{empty} of {len(pairs)} batches teach nothing" if empty else "most of the computing teaches nothing"
        return Check(name, measured, expected, WARN, f"{advice}: look at what masks the targets")
    return Check(name, measured, expected, OK)


def agreement(pairs: Pairs, shift: int, within: bool = True) -> tuple[float, int]:
    """(share of the scored targets that are the id ``shift`` further in the same row, how many were compared). within:
    only where the target there is scored too: behind the last one of a row comes what fills it up."""
    same = compared = 0
    for ids, targets, *_ in pairs:
        time = ids.shape[1]
        if abs(shift) >= time:
            continue
        at, there = slice(max(0, -shift), time - max(0, shift)), slice(max(0, shift), time - max(0, -shift))
        scored = targets[:, at] != IGNORE
        if within:
            scored &= targets[:, there] != IGNORE
        same += int(np.count_nonzero((targets[:, at] == ids[:, there]) & scored))
        compared += int(np.count_nonzero(scored))
    return (same / compared if compared else 0.0), compared


def alignment(pairs: Pairs) -> Check:
    """The target of position t is the id at t + 1: not the one shown (a copy), nor two ahead (shifted twice)."""
    name, expected = "shift", f"the next id in at least {AGREES:.0%}"
    shares = {shift: agreement(pairs, shift) for shift in SHIFTS}
    if shares[1][1] == 0:  # one label a row
        shares = {shift: agreement(pairs, shift, within=False) for shift in SHIFTS}
    if shares[1][1] == 0:
        return skipped(name, "no scored target has a next id in its row to be compared with")
    best = max(SHIFTS, key=lambda shift: shares[shift][0])  # of equals the first: 1
    share, compared = shares[best]
    where = {0: "the id at the same position", 1: "the next id"}.get(best, f"the id at t{best:+d}")
    measured = f"targets are {where} in {share:.1%} of {compared} places"
    if best == 1 and share >= AGREES:
        return Check(name, measured, expected, OK)
    measured += "" if best == 1 else f", the next id in {shares[1][0]:.1%}"
    if share >= AGREES:
        said = {
            0: "the answer is in the question: targets must be ids[1:], loopos shifts nothing itself",
            2: "shifted twice: once by the data and once more; shift once",
            -1: "the answer is the id before, which is in the context: is the shift the wrong way round?",
        }
        return Check(name, measured, expected, FAIL if best >= 0 else WARN, said.get(best, "shift targets by one"))
    if share >= MOSTLY:
        return Check(name, measured, expected, WARN, "look at the targets that are another id: noise, or borders?")
    advice = "no shift fits: fine for labels that are no next ids, shuffled labels otherwise"
    return Check(name, measured, expected, WARN, advice)
