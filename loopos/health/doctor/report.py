"""What the doctor says: one line a check, with what was measured, what was expected, and a verdict."""

from __future__ import annotations

from dataclasses import asdict, dataclass, field
from typing import Any

OK, WARN, FAIL, SKIPPED = "ok", "warn", "fail", "skipped"
VERDICTS = (OK, WARN, FAIL, SKIPPED)
_MARKS = {OK: "ok  ", WARN: "WARN", FAIL: "FAIL", SKIPPED: "-   "}


@dataclass(frozen=True)
class Check:
    """One line. measured, expected: in words, with their numbers; verdict: one of VERDICTS; advice: what to do, where
    something is wrong. Of a skipped check, measured is the reason. figures: numbers that a line does not hold."""

    name: str
    measured: str
    expected: str
    verdict: str
    advice: str = ""
    figures: dict[str, Any] = field(default_factory=dict, hash=False)

    def __post_init__(self) -> None:
        if self.verdict not in VERDICTS:
            raise ValueError(f"Check: verdict must be one of {', '.join(VERDICTS)}, got {self.verdict!r}")

    def __str__(self) -> str:
        if self.verdict == SKIPPED:
            return f"{_MARKS[SKIPPED]} {self.name}: skipped, {self.measured}"
        line = f"{_MARKS[self.verdict]} {self.name}: {self.measured}; expected {self.expected}"
        return f"{line}\n     {self.advice}" if self.advice and self.verdict != OK else line


def skipped(name: str, reason: str) -> Check:
    """The line of a check that could not be made."""
    return Check(name, reason, "", SKIPPED)


@dataclass(frozen=True)
class DoctorReport:
    """checks: in the order in which they were made; seconds: what they took; quick: whether it was the short round."""

    checks: tuple[Check, ...]
    seconds: float
    quick: bool = False

    @property
    def ok(self) -> bool:
        """No check failed. Warnings and skipped checks are no failures."""
        return not self.failures

    def __bool__(self) -> bool:
        return self.ok

    @property
    def failures(self) -> tuple[Check, ...]:
        return tuple(check for check in self.checks if check.verdict == FAIL)

    @property
    def problems(self) -> tuple[Check, ...]:
        """Failures and warnings, in order."""
        return tuple(check for check in self.checks if check.verdict in (FAIL, WARN))

    def __getitem__(self, name: str) -> Check:
        """The check of that name; KeyError naming those there are."""
        for check in self.checks:
            if check.name == name:
                return check
        raise KeyError(f"no check {name!r}; there are {', '.join(check.name for check in self.checks)}")

    @property
    def summary(self) -> str:
        """One line: how many checks came out how."""
        counts = {verdict: sum(check.verdict == verdict for check in self.checks) for verdict in VERDICTS}
        words = [f"{counts[OK]} checks passed"]
        words += [f"{counts[FAIL]} failed"] if counts[FAIL] else []
        words += [f"{counts[WARN]} with a warning"] if counts[WARN] else []
        words += [f"{counts[SKIPPED]} skipped"] if counts[SKIPPED] else []
        return f"doctor: {', '.join(words)} in {self.seconds:.2f} s"

    def __str__(self) -> str:
        return "\n".join([*map(str, self.checks), self.summary])

    def to_dict(self) -> dict[str, Any]:
        """Plain values, safe for JSON."""
        return {
            "summary": self.summary,
            "ok": self.ok,
            "quick": self.quick,
            "seconds": self.seconds,
            "checks": [asdict(check) for check in self.checks],
        }
