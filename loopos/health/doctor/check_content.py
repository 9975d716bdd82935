"""What the doctor asks of the content of the data: that ids are those of the model, and of a text; that what is held
out is not what is learned; that padding is neither seen nor scored.

Ids (N,) of a stream, or batches (B, T), of which the first are looked at.
"""

from __future__ import annotations

from collections.abc import Iterator

import numpy as np

from loopos.data.batches import IGNORE, DatasetSource
from loopos.data.content import HEAD, look
from loopos.data.held_out import HeldOut
from loopos.data.reading import fingerprint
from loopos.data.token_file import wider
from loopos.data.tokenizer import ByteTokenizer
from loopos.data.vocabulary import padded

from .check_data import Pairs
from .plan import Plan
from .report import OK, WARN, Check

LOOKED_AT = 1 << 18  # ids of a stream
MOSTLY = 0.4  # share of one id; in texts the most frequent one has less than a quarter
LARGE = 1024  # a vocabulary, of which an eighth at least should be seen
COMPARED = 1 << 22  # ids among which pieces of the held-out data are sought
PIECES, LONGEST = 32, 32  # held-out pieces that are sought, and their length
SEVERAL, LONG = 0.25, 8  # share of rows that make padding; a run is at least 3 ids and T / LONG


def check_content(plan: Plan, pairs: Pairs) -> Iterator[Check]:
    """The checks of the content, in order."""
    if plan.stream is not None:
        yield content(plan)
    if plan.config is not None and hasattr(plan.config, "vocab_size"):
        yield vocabulary(plan, pairs)
    if plan.stream is None:
        yield padding(pairs)
    if plan.sources.eval is not None:
        yield held_out(plan, pairs)


def content(plan: Plan) -> Check:
    """The histogram of the ids, and where they are bytes the first of them."""
    ids = plan.sources.train.ids[:LOOKED_AT]
    name, expected = "content", f"no id in {MOSTLY:.0%} of the places"
    kinds, counts = np.unique(ids, return_counts=True)
    first = int(np.argmax(counts))
    share = counts[first] / max(1, len(ids))
    measured = f"{len(kinds)} different ids, the most frequent is {kinds[first]} ({share:.1%})"
    remark = None
    if isinstance(plan.sources.tokenizer, ByteTokenizer):
        remark = look(ids[:HEAD].astype(np.uint8).tobytes())
    if remark is not None:
        return Check(name, f"{measured}; this is {remark.says}", "text", WARN, remark.advice)
    if kinds[-1] < 1 << 16 and (width := wider(ids.astype(np.uint16))) is not None:
        advice = f"these are ids of {2 * width} bytes that were read as {width} each: give their type (np.memmap, .npy)"
        part = "every second id" if width == 2 else "three of four ids"
        return Check(name, f"{measured}; {part} is of the upper half of a number", expected, WARN, advice)
    if share >= MOSTLY and len(ids) > 1:
        advice = "look at the data: padding, an unfinished file, or ids of another width than they were read with?"
        return Check(name, measured, expected, WARN, advice)
    return Check(name, measured, expected, OK)


def vocabulary(plan: Plan, pairs: Pairs) -> Check:
    """The tokenizer against the model, or where there is none the ids against it."""
    size, tokenizer = plan.config.vocab_size, plan.sources.tokenizer
    name = "vocabulary"
    if tokenizer is not None:
        tokens = int(tokenizer.vocab_size)
        measured, expected = f"the tokenizer has {tokens} tokens, the model {size} ids", "as many"
        if tokens > size:
            return Check(name, measured, expected, WARN, "some tokens have no id in this model: is it the right one?")
        if not plan.new and not padded(size, tokens):
            advice = "weights that have learned the ids of another tokenizer need that one (tokenizer=)"
            return Check(name, measured, expected, WARN, advice)
        if size > 2 * tokens and size - tokens >= LARGE // 2:
            advice = f"{size - tokens} ids never come and are computed in every step: is it the right tokenizer?"
            return Check(name, measured, expected, WARN, advice)
        return Check(name, measured, expected, OK)
    ids = [plan.sources.train.ids[:LOOKED_AT]] if plan.stream is not None else [part for part, *_ in pairs]
    highest = max(int(part.max(initial=0)) for part in ids)
    measured, expected = f"the highest id is {highest} of 0..{size - 1}", "ids from all of the vocabulary"
    if size >= LARGE and highest < size // 8:
        advice = f"ids from {highest + 1} on never come: bytes or characters for a model of another tokenizer?"
        return Check(name, measured, expected, WARN, advice)
    return Check(name, measured, expected, OK)


def padding(pairs: Pairs) -> Check:
    """Rows are not filled up from the left, where the filling is seen, nor is filling at the end scored."""
    name, expected = "filling of rows", "none on the left, none scored"
    left, right, scored, rows = [], [], 0, 0
    for ids, targets, *_ in pairs:
        long = max(3, ids.shape[1] // LONG)
        rows += len(ids)
        for row, labels in zip(ids, targets, strict=True):
            if ids.shape[1] < 2 * long or (row == row[0]).all():
                continue
            before, after = (int(np.argmax(part != part[0])) for part in (row, row[::-1]))
            if before >= long:
                left.append(int(row[0]))
            if after >= long:
                right.append(int(row[-1]))
                scored += bool((labels[-after:] != IGNORE).sum() > after / 2)
    many_left, many_right = (len(part) > SEVERAL * rows and len(set(part)) == 1 for part in (left, right))
    measured = f"{len(left)} of {rows} rows begin and {len(right)} end with a run of one id"
    if many_left:
        advice = f"id {left[0]} fills rows from the left and is seen by what comes after it: fill them from the right"
        return Check(name, measured, expected, WARN, advice)
    if many_right and scored > len(right) / 2:
        advice = f"id {right[0]} fills rows and is scored as a label: give such targets as {IGNORE}"
        return Check(name, measured, expected, WARN, advice)
    return Check(name, measured, expected, OK)


def held_out(plan: Plan, pairs: Pairs) -> Check:
    """What is held out is not among what is learned."""
    name, expected = "held-out data", "what is not learned"
    advice = "the held-out loss will tell how much is known by heart: hold out a part that is not trained on"
    train, scored = plan.sources.train, plan.sources.eval
    if isinstance(train, DatasetSource) and isinstance(scored, DatasetSource):
        learned = {row.tobytes() for ids, *_ in pairs for row in ids}
        rows = [row.tobytes() for row in scored.batch(0)[0]]
        shared = sum(row in learned for row in rows)
        measured = f"{shared} of the first {len(rows)} held-out rows are among the first training rows"
        bad = plan.same or 2 * shared > len(rows)
        return Check(name, measured, expected, WARN if bad else OK, advice if bad else "")
    if not (plan.stream is not None and isinstance(scored, HeldOut)):
        return Check(name, "of another form than the training data", expected, OK)
    if len(train.ids) == len(scored.ids) and fingerprint(train.ids) == fingerprint(scored.ids):
        return Check(name, "the training data themselves", expected, WARN, advice)
    found = known(train.ids, scored.ids)
    if found is None:
        return Check(name, f"{len(scored.ids)} tokens", expected, OK)
    shared, repeated, length = found
    measured = (
        f"{shared:.0%} of pieces of {length} tokens are in the training data, which repeat {repeated:.0%} of theirs"
    )
    bad = shared - repeated > 0.5
    return Check(name, measured, expected, WARN if bad else OK, advice if bad else "")


def known(learned: np.ndarray, scored: np.ndarray) -> tuple[float, float, int] | None:
    """(share of pieces of ``scored`` that are in ``learned``, share of pieces of ``learned`` that come again in it,
    their length); None of too few tokens. Of long data a part is looked at, in which fewer are found."""
    length = LONGEST
    while length > 8 and length * 4 > min(len(scored), len(learned)):
        length //= 2
    if length * 4 > min(len(scored), len(learned)):
        return None
    there = _hashes(learned[:COMPARED], length)
    ours = there[np.linspace(0, len(there) - 1, PIECES).astype(np.int64)]
    starts = np.linspace(0, len(scored) - length, PIECES).astype(np.int64)
    theirs = np.array([_hashes(scored[start : start + length], length)[0] for start in starts])
    again = there[np.isin(there, ours)]
    return float(np.isin(theirs, there).mean()), float(np.mean([(again == one).sum() > 1 for one in ours])), length


def _hashes(ids: np.ndarray, length: int) -> np.ndarray:
    """A 64-bit hash of each piece of ``length``, a power of two: of two halves, each hashed in the same way."""
    found, base, width = ids.astype(np.uint64), 0x9E3779B97F4A7C15, 1
    while width < length:
        found = found[:-width] * np.uint64(base) + found[width:]
        base, width = base * base % 2**64, 2 * width
    return found
