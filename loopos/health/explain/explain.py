"""loopos.explain: from a log or an error to its likely causes, in order, with evidence and the check that decides."""

from __future__ import annotations

import itertools
import json
import math
import os
import re
from collections.abc import Callable, Iterator
from dataclasses import replace
from pathlib import Path
from typing import Any, BinaryIO

from loopos.errors import CAUSES, Birth, CheckpointError, NonFiniteError
from loopos.health.runs import Run, stream_run
from loopos.run.metrics import METRICS

from . import claims, curves, evaluations, halves, restarts, rules, run_evidence, zeros
from .findings import CERTAIN, CONFIDENCE, LIKELY, POSSIBLE, UNKNOWN, Explanation, Finding
from .lines import lines_of, text_of
from .logs import Log, birth_in, is_path, records_of_json, shown, without_notes
from .reading import Reading
from .sentences import SYMPTOMS
from .series import is_norm, with_loss
from .symptoms import Hits, Symptom, is_negated

RULES: tuple[Callable[[Log], Iterator[Finding]], ...] = (
    restarts.restarted,
    zeros.filtered_loss,
    zeros.lost_to_zero,
    evaluations.held_out,
    rules.refused,
    curves.implausible_loss,
    rules.nonfinite_loss,
    rules.nonfinite_norm,
    curves.norm_jump,
    curves.scale_jump,
    curves.grown_loss,
    zeros.zero_gradient,
    curves.zero_rate,
    curves.constant_loss,
    curves.negative_loss,
    curves.trend_of,
)
_MAX_BIRTHS = 10
_LONGEST = 4096  # characters of a line that are looked at
_WHOLE = 32 << 20  # bytes up to which a file is tried as one JSON value
_BIRTH = re.compile(
    r"(?:step (?P<step>\d+), )?(?P<phase>forward pass|backward pass|update)(?:, block (?P<layer>\d+))?, op "
    r"(?P<op>[\w.]+): "
    r"(?P<tensor>[\w.]+(?:\[[\w']{1,40}\])*(?: \(output \d+\))?)"
    r"\[(?P<index>[\d, ]*)\] = (?P<value>-?(?:NaN|inf)) \((?P<cause>[^\n]*)\)",
    re.I,
)
_FLOOR = re.compile(r"clamp_min\(\s?(1e-\d+)\s?\)|max\([^()]{1,60},\s?(1e-\d+)\)", re.I)
_TOTAL = re.compile(r"(?:\bN\s?=\s?|trace ?(?:=|→|to N=?|-normali[sz]ed? to N=?)\s?)(\d{1,6})\b", re.I)
_WORDS = (  # in lower case: a line without any of them has no formula, no birth, and tells of no trouble
    *(" op ", "exp(", "softmax(", "sigmoid(", "tanh(", "clamp_min(", "max(", "trace", "n=", "n ="),
    *claims.FAILURE_WORDS,
)
_KEYS = {  # of a cause's class, where it is not the class itself with hyphens
    "inf - inf": "inf-minus-inf",
    "0*inf": "zero-times-inf",
    "0/0": "zero-over-zero",
    "x/0": "division-by-zero",
    "log 0": "log-zero",
    "eps floor active": "eps-floor",
}
_CAUSES = {  # words of a Birth's cause, the first that fits: the key
    "learning rate": "learning-rate-too-large",
    "label": "label-out-of-range",
    "masked": "all-masked-row",
    "sum of their squares": "norm-overflow",
    "gradients of the micro-batches": "product-overflow",
    "exp": "exp-overflow",
    "log": "log-zero",
    "root": "negative-root",
    "overflow": "product-overflow",
    "too large for the dtype": "product-overflow",
    "0 / 0": "zero-over-zero",
    "0/0": "zero-over-zero",
    "inf - inf": "inf-minus-inf",
}


def explain(source: str | bytes | os.PathLike | BinaryIO | BaseException) -> Explanation:
    """The likely causes of what a log or an error shows.

    source: a text; bytes; the path of a file, or of the folder of a run, whose bundles count too (a str that names
    something that exists is a path); a binary stream; or an exception. Any bytes will do: what cannot be read is said
    in ``notes``. OSError when a path cannot be read, TypeError for anything else.

    Nothing is claimed beyond the evidence: "unknown" and "insufficient-evidence" are findings, and a text without
    numbers or symptoms has none."""
    if isinstance(source, BaseException):
        return _of_error(source)
    folder: Path | None = None
    if isinstance(source, str) and is_path(source):
        source = Path(source)
    if isinstance(source, os.PathLike):
        source = Path(source)
        if source.is_dir():
            folder, source = source, source / METRICS
        size = source.stat().st_size
        text = source.read_bytes() if folder is None and source.is_file() and size <= _WHOLE else b""
    elif isinstance(source, (str, bytes, bytearray, memoryview)):
        text = source.encode("utf-8", "surrogatepass") if isinstance(source, str) else bytes(source)
        source = text
    elif callable(getattr(source, "read", None)):
        text = b""
    else:
        raise TypeError(
            f"explain: expected a text, bytes, a path, a binary stream or an exception, got {type(source).__name__}"
        )
    reader = _Reader()
    if folder is not None:
        reader.of_run(folder)
    begins = text[:64].translate(None, b"\0\xef\xbb\xbf\xff\xfe").lstrip()[:1] in (b"{", b"[")
    whole = records_of_json(text_of(text)) if begins and len(text) <= _WHOLE else None
    for number, line in lines_of(source, reader.log.notes):
        reader.line(number, line, numbers=whole is None)
    for number, entry in whole or ():
        reader.reading.line(number, repr(entry))
    return reader.explanation()


class _Reader:
    """Takes the lines one by one; keeps numbers, and what matches a symptom."""

    def __init__(self) -> None:
        self.log = Log()
        self.reading = Reading(self.log, self._rules_for)
        self.about = ""  # said in place of counts
        self._symptoms, self._claims = Hits((*SYMPTOMS, *halves.SYMPTOMS)), Hits(claims.CLAIMS)
        self.births: list[Finding] = []
        self.own: list[Finding] = []
        self._floors: list[tuple[float, str]] = []
        self._totals: list[float] = []
        self._leap: Finding | None = None
        self._of_run = False
        self._failure = False

    def of_run(self, source: Path | Run) -> None:
        """Take in what the folder of a run tells besides its log."""
        self._of_run = True
        try:
            run = source if isinstance(source, Run) else stream_run(source)
            seen = run_evidence.survey(run)
            self._leap = run_evidence.leap(run, seen)
            endings = [ending for ending in run_evidence.endings(run, seen) if ending.step not in seen.births]
        except (OSError, CheckpointError) as error:
            self.log.notes.append(str(error))
            return
        for ending in endings[-_MAX_BIRTHS:]:
            if ending.problem:
                self.log.notes.append(ending.problem)
            elif ending.past:
                self.log.notes.append(f"{ending.path.name} is of an attempt that the log has gone past, and left out")
            elif (birth := ending.birth) is not None:
                here = (f"{ending.path.name}: {shown(str(birth), 400)}",)
                self.births.append(_of_birth(birth.op, birth.tensor, birth.phase, birth.cause, here))

    def line(self, n: int, text: str, numbers: bool = True) -> None:
        self.log.lines = max(self.log.lines, n)
        recorded, text = birth_in(text), without_notes(text)[:_LONGEST]
        if recorded and (birth := _BIRTH.search(recorded)) and len(self.births) < _MAX_BIRTHS:
            here = (f"line {n}: {shown(recorded, 400)}",)
            self.births.append(_of_birth(birth["op"], birth["tensor"], birth["phase"], birth["cause"], here))
        symptoms, doubted, others = self.reading.line(n, text, numbers).rules
        self._symptoms.look(n, text, is_negated(text, text.lower()), symptoms)
        if doubted and not claims.is_setting(text):
            self._claims.look(n, text, False, doubted)
        if others:
            self._failure = self._failure or claims.mentions_failure(text, text.lower())
            self._formulas(n, text)

    def _rules_for(self, low: str) -> tuple[list[Symptom], list[Symptom], bool]:
        """What may match the lines of a shape: symptoms, claims, and whether any of what has words of its own."""
        return self._symptoms.candidates(low), self._claims.candidates(low), any(word in low for word in _WORDS)

    def _formulas(self, n: int, text: str) -> None:
        here = (f"line {n}: {shown(text, 400)}",)
        if (birth := _BIRTH.search(text)) and len(self.own) < _MAX_BIRTHS:
            self.own.append(_of_birth(birth["op"], birth["tensor"], birth["phase"], birth["cause"], here))
        if (value := claims.exp_argument(text)) is not None:
            says = (
                f"exp({value:g}) is infinite in float32 (its limit is {claims.EXP_LIMIT:.2f}), in bfloat16 too: NaN "
                "follows unless the row maximum is subtracted first."
            )
            check = (
                "subtract the row maximum before exp, as a fused log-softmax does; then ask why logits are that large"
            )
            self._once(Finding("exp-overflow", LIKELY, says, here, check))
        if (found := claims.gate(text)) is not None:
            check = "evaluate the gate at 0 and at its two ends; follow the size of the activations through the blocks"
            self._once(Finding(found[0], CERTAIN, found[1], here, check))
        self._floors += [(float(a or b), here[0]) for a, b in _FLOOR.findall(text)] if len(self._floors) < 20 else []
        self._totals += [float(value) for value in _TOTAL.findall(text)] if len(self._totals) < 50 else []

    def _once(self, finding: Finding) -> None:
        if all(finding.cause != other.cause for other in self.own):
            self.own.append(finding)

    def explanation(self) -> Explanation:
        log = self.log
        log.settle()
        restarts.divide(log)
        births = [replace(b, evidence=b.evidence + self._leap_for(b)) for b in self.births]
        found = [*self.own, *self._symptoms.findings(), *self._floor(), *([self._leap] if self._leap else [])]
        found += [finding for rule in RULES for finding in rule(log)]
        if self._leap or any(birth.confidence == CERTAIN for birth in births):
            found = [each for each in found if each.confidence != POSSIBLE or each.cause not in _GUESSES]
        found.sort(key=_rank_in_run if self._of_run else _rank)
        known = [birth for birth in births if birth.confidence != UNKNOWN]
        found = [*known, *found, *(birth for birth in births if birth.confidence == UNKNOWN)]
        merged: dict[str, Finding] = {}
        for finding in found:
            merged.setdefault(finding.cause, finding)
        for weaker, stronger in _SAID_BETTER.items():
            if stronger & set(merged):
                merged.pop(weaker, None)
        claimed = () if self._is_healthy(set(merged)) else self._claims.findings()
        if "insufficient-evidence" not in merged or not log.records:
            claimed = (each for each in claimed if each.cause != claims.BEYOND)
        doubts = [*claimed, *rules.unequal_runs(log)]
        return Explanation(tuple(merged.values()), tuple(doubts), self._facts(bool(merged)), tuple(log.notes))

    def _is_healthy(self, causes: set[str]) -> bool:
        """A log of a run in which nothing went wrong, in a text that speaks of no trouble: remedies are not claimed."""
        finite = sum(math.isfinite(record.values["loss"]) for record in with_loss(self.log))
        return finite >= curves.FEWEST and not self._failure and causes <= {"learning", "flat", "insufficient-evidence"}

    def _leap_for(self, birth: Finding) -> tuple[str, ...]:
        return self._leap.evidence if self._leap is not None and self._leap.cause == birth.cause else ()

    def _floor(self) -> Iterator[Finding]:
        """A norm that is a plain multiple of N / floor, for a floor in the text: the floor made it."""
        norms = [
            (name, value, record)
            for record in self.log.records
            for name, value in record.values.items()
            if is_norm(name) and value > curves.ABSURD
        ]
        for (floor, where), total, (name, value, record) in itertools.product(self._floors, self._totals, norms):
            ratio = value / (total / floor)
            if 1 / total**0.5 <= ratio <= total:
                yield Finding(
                    "eps-floor",
                    LIKELY,
                    f"{name} = {value:.4g} is {ratio:.4g} times {total:g}/{floor:g}, the size expected when the floor "
                    f"{floor:g} is the divisor. Then what it guards (a trace) was at or below {floor:g}: indefinite "
                    "or negative, not merely small.",
                    (f"line {record.line}: {record.text}", where),
                    "print the guarded quantity before the floor, with its sign; count how often the floor acts; test "
                    "the matrix for being positive semidefinite",
                )
                return

    def _facts(self, found: bool) -> tuple[str, ...]:
        log = self.log
        facts = [f"{log.lines} lines", f"{log.entries} entries with numbers"]
        records = with_loss(log)
        losses = [r.values["loss"] for r in records]
        bad = sum(value - value != 0 for value in losses)
        if losses:
            facts.append(f"{len(losses)} with a loss, {bad} of them not finite")
        if self.about:
            return (self.about,)
        if log.lines == 0:
            return ("the text is empty: there is nothing to explain",)
        if not found:
            facts.append("no symptom that is known here: nothing to explain")
        return tuple(facts)


_CONSEQUENCES = {
    "step-skipped",
    "step-marked-bad",
    "not-finite-reported",
    "weight-not-finite",
    "learning",
    "flat",
    "diverging",
}
_GUESSES = {"data", "exp-overflow", "first-forward", "labels-masked"}  # at what a birth, or a leap, tells
_SAID_BETTER = {  # a finding that adds nothing beside any of these
    "not-finite-reported": {
        "loss-filtered",
        "first-forward",
        "exp-overflow",
        "invalid-operation",
        "backward-nan",
        "implausible-loss",
        "data",
    },
    "unknown": {"loss-filtered", "implausible-loss", "born-in-backward", "backward-nan"},
    "flat": {"no-update", "learning-rate-zero", "eps-floor", "labels-masked", "loss-filtered", "eval-not-finite"},
    "learning": {"loss-filtered", "overfitting", "eval-not-finite"},
    "insufficient-evidence": {"learning-rate-zero"},
    "no-update": {"learning-rate-zero"},
    "diverging": {"learning-rate-too-large"},
}


def _rank(finding: Finding) -> tuple[bool, bool, int]:
    """Causes before their consequences, the surer first; the sort keeps the order of the rules otherwise."""
    unknown = finding.confidence == UNKNOWN
    return unknown, finding.cause in _CONSEQUENCES, CONFIDENCE.index(finding.confidence)


def _rank_in_run(finding: Finding) -> tuple[bool, int, bool]:
    """Of a run of LoopOS, whose log holds what is certain because it was written down: the surer first."""
    return finding.confidence == UNKNOWN, CONFIDENCE.index(finding.confidence), finding.cause in _CONSEQUENCES


def _of_birth(op: str, tensor: str, phase: str, cause: str, evidence: tuple[str, ...]) -> Finding:
    low, kind = cause.lower(), cause.partition(":")[0]
    if kind in CAUSES:
        key = _KEYS.get(kind, kind.replace(" ", "-")) if kind != "unknown" else None
    else:  # of an earlier version
        key = next((key for words, key in _CAUSES.items() if words in low), None)
    if op == "parameter":
        key = "weight-not-finite"
    says = f"born in {op} ({phase.removesuffix(' pass')}), in {tensor}: {cause}."
    check = _CHECKS.get(key or "", "replay this step with half the rate, in float64, and without the row that is named")
    return Finding(key or "unknown", CERTAIN if key else UNKNOWN, says, evidence, check)


_CHECKS = {
    "learning-rate-too-large": "the same run with a tenth of the rate, a longer warm-up or clipped gradients",
    "weight-decay-too-large": "the same run with a weight_decay of 0.1 at most: rate times decay far below 1",
    "weight-not-finite": "find who wrote it: the checkpoint that was loaded, or the update before this step",
    "label-out-of-range": "compare the smallest and largest id with vocab_size",
    "all-masked-row": "count what each query may attend to, padding included",
}


def explain_run(run: Run) -> Explanation:
    """Of a run that was read: as of its folder."""
    reader = _Reader()
    reader.of_run(run)
    for i, record in enumerate(run.records, 1):
        reader.line(i, json.dumps({k: value for k, value in record.items() if not isinstance(value, (dict, list))}))
    return reader.explanation()


def _of_error(error: BaseException) -> Explanation:
    """Of an exception: its own facts where it has them, else its text and that of what caused it."""
    chain: list[BaseException] = []
    current: BaseException | None = error
    while current is not None and current not in chain and len(chain) < 16:
        chain.append(current)
        current = current.__cause__ or (None if current.__suppress_context__ else current.__context__)
    births: list[Finding] = []
    reader = _Reader()
    for each in chain:
        birth: Any = getattr(each, "birth", None)
        text = _text_of(each)
        if isinstance(each, NonFiniteError) and isinstance(birth, Birth):
            births.append(
                _of_birth(birth.op, birth.tensor, birth.phase, birth.cause, (shown(f"NonFiniteError: {text}", 400),))
            )
            continue
        if isinstance(each, CheckpointError):
            says = f"a file cannot be trusted: {each.what}."
            births.append(Finding("damaged-file", CERTAIN, says, (shown(text),), "go back to the checkpoint before it"))
        for i, line in enumerate(f"{type(each).__name__}: {text}".splitlines(), reader.log.lines + 1):
            reader.line(i, line)
    reader.own[:0] = births
    if births:
        reader.about = f"{type(error).__name__} of LoopOS"
    return reader.explanation()


def _text_of(error: BaseException) -> str:
    try:
        return str(error)
    except Exception:  # an exception whose own text fails is still to be explained
        return "(its text cannot be shown)"
