"""The label audit: what of the examples is learned, before hours are spent on it.

A training on no labels looks like any other from outside: no error, a loss of zero. So the labels are counted first,
and each example that has none has a cause.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import asdict, dataclass, field
from itertools import pairwise
from typing import Any

import numpy as np

from loopos import checks

from .data import require
from .encoding import CAUSES, LEARNED, end_of_text
from .forms import FORM_NAMES
from .rows import Examples

CUT_AWAY = "what is to be learned lies behind the first seq_len tokens"
FIRST = 5  # numbers that are named
OPEN, CLOSE = "[[", "]]"  # around what is learned, in the decoded example
_AROUND = 160  # characters shown before, of and behind it


@dataclass(frozen=True)
class LabelAudit:
    """examples: in the data; cut: longer than seq_len, so that only their first seq_len tokens are used; tokens: used,
    counted before the shift by one; valid: of them learned; masked: only read; empty_rows: examples with nothing to
    learn, which are left out; ended: examples whose last learned token is the end of text, from which a model learns to
    stop; causes: of each cause of empty rows how many, and where the first are; forms: how many examples of each form;
    sample: one example decoded, what is learned between [[ and ]]; end_token: the end of text, decoded, None of a
    tokenizer without one."""

    examples: int
    tokens: int
    valid: int
    masked: int
    empty_rows: int
    cut: int
    ended: int
    seq_len: int
    causes: dict[str, tuple[int, tuple[str, ...]]] = field(default_factory=dict)
    forms: dict[str, int] = field(default_factory=dict)
    sample: str = ""
    end_token: str | None = None

    def to_dict(self) -> dict[str, Any]:
        """Safe for JSON."""
        causes = {cause: {"rows": rows, "first": list(first)} for cause, (rows, first) in self.causes.items()}
        return asdict(self) | {"causes": causes}

    def __str__(self) -> str:
        forms = ", ".join(f"{count} of {form}" for form, count in self.forms.items())
        share = self.valid / self.tokens if self.tokens else 0.0
        end = "the tokenizer has no end-of-text token" if self.end_token is None else f"end of text {self.end_token!r}"
        learnable = self.examples - self.empty_rows
        lines = [
            f"label audit: {self.examples} examples ({forms or 'none'}), {self.tokens} tokens: {self.valid} learned "
            f"({share:.1%}), {self.masked} only read",
            f"  rows with nothing to learn: {self.empty_rows}; cut at {self.seq_len} tokens: {self.cut}; "
            f"rows that end in a learned end of text: {self.ended} of {learnable} ({end})",
        ]
        lines += [f"  {self.described(cause)}" for cause in self.causes]
        if learnable and self.ended == 0:
            lines.append("  the model does not learn where to stop: no row ends in a learned end-of-text token")
        if self.sample:
            lines.append(f"  one row, learned between {OPEN} and {CLOSE}: {self.sample!r}")
        return "\n".join(lines)

    def described(self, cause: str) -> str:
        """A cause of empty rows in words: how many, and the first."""
        rows, first = self.causes[cause]
        more = ", ..." if rows > len(first) else ""
        return f"{rows} with nothing to learn: {cause} ({', '.join(first)}{more})"

    def require_labels(self, name: str) -> None:
        """ValueError with the causes when no example has anything to learn."""
        if self.examples and self.empty_rows < self.examples:
            return
        if not self.examples:
            raise ValueError(f"{name}: expected examples to learn, got none; the file holds no record")
        counted = "; ".join(self.described(cause) for cause in self.causes)
        raise ValueError(
            f"{name}: nothing is left to learn in any of {self.examples} examples: {counted}. A larger seq_len, other "
            "examples, or mask_prompt=False (--no-mask-prompt), which learns all tokens, may help"
        )


def audit(data: Any, tokenizer: Any, seq_len: int, *, mask_prompt: bool = True) -> LabelAudit:
    """Count what :func:`loopos.train` would learn of examples.

    data: a .jsonl, .csv or .parquet file, a folder with train.jsonl, or a list of objects. tokenizer: as of train.
    seq_len: tokens of an example that are used. mask_prompt: False learns prompts too. TypeError for data that are no
    examples, ValueError for a record that is none, with its place."""
    from loopos.data.tokenizer import resolve

    found, made = require(data, "audit"), resolve(tokenizer)
    length = checks.count("audit", "seq_len", seq_len)
    end = end_of_text(made)
    masking = checks.boolean("audit", "mask_prompt", mask_prompt)
    examples = Examples(
        found.stores(made), seq_len=length, mask_prompt=masking, part=found.part, end=end[0] if end else None
    )
    return of_examples(examples, made)


def of_examples(examples: Examples, tokenizer: Any) -> LabelAudit:
    """Of examples that are open."""
    counts = examples.counts
    empty = counts.predicted == 0
    tokens, valid = int(counts.tokens.sum()), int(counts.learned.sum())
    forms = np.bincount(examples.forms, minlength=len(FORM_NAMES)).tolist()
    return LabelAudit(
        examples=len(examples),
        tokens=tokens,
        valid=valid,
        masked=tokens - valid,
        empty_rows=int(empty.sum()),
        cut=int((examples.sizes > examples.seq_len).sum()),
        ended=int((counts.ended & ~empty).sum()),
        seq_len=examples.seq_len,
        causes=_causes(examples, empty),
        forms={name: count for name, count in zip(FORM_NAMES, forms, strict=True) if count},
        sample=_sample(examples, np.flatnonzero(~empty), tokenizer.decode),
        end_token=tokenizer.decode(end) if (end := end_of_text(tokenizer)) else None,
    )


def _causes(examples: Examples, empty: np.ndarray) -> dict[str, tuple[int, tuple[str, ...]]]:
    found = {}
    kinds = np.where(empty, examples.causes, -1)
    for kind, cause in ((LEARNED, CUT_AWAY), *CAUSES.items()):
        rows = np.flatnonzero(kinds == kind)
        if len(rows):
            found[cause] = len(rows), tuple(examples.place(int(row)) for row in rows[:FIRST])
    return found


def _sample(examples: Examples, rows: np.ndarray, decode: Callable[[Any], str]) -> str:
    """The first example with anything to learn, its learned parts marked; long parts are shortened."""
    if not len(rows):
        return ""
    ids, learned = examples.tokens(int(rows[0]))
    borders = [0, *(np.flatnonzero(np.diff(learned.astype(np.int8))) + 1).tolist(), len(ids)]
    parts = []
    for start, stop in pairwise(borders):
        text = decode(ids[start:stop].tolist())
        if len(text) > 2 * _AROUND:
            text = f"{text[:_AROUND]} ... {text[-_AROUND:]}"
        parts.append(f"{OPEN}{text}{CLOSE}" if learned[start] else text)
    text = "".join(parts)
    return text if len(text) <= 8 * _AROUND else f"{text[: 8 * _AROUND]} ..."
