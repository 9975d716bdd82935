"""What a gradient check reports."""

from __future__ import annotations

import math
from dataclasses import dataclass

import numpy as np

FLAT = "flat here to rounding, which proves nothing; choose other inputs, or pass allow_zero=True if it must be so"


class GradcheckError(AssertionError):
    """A gradient disagrees with the differences of its function; ``report`` holds the numbers."""

    def __init__(self, report: GradcheckReport):
        super().__init__(str(report))
        self.report = report

    def __reduce__(self):
        return (type(self), (self.report,))


@dataclass(frozen=True)
class GradcheckResult:
    """One input or parameter: the relative ``error``, infinite when nothing could be compared, and why it failed."""

    name: str
    passed: bool
    error: float
    reason: str = ""
    index: tuple[int, ...] | None = None
    analytic: float | None = None
    numeric: float | None = None

    def __str__(self) -> str:
        line = f"{'ok  ' if self.passed else 'FAIL'} {self.name}: relative error {self.error:.1e}"
        if not self.passed and self.analytic is not None and self.numeric is not None:
            at = "" if self.index is None else f" at {list(self.index)}"
            line += f"; worst{at}: gradient {self.analytic:.10g}, difference {self.numeric:.10g}"
        return f"{line}; {self.reason}" if self.reason else line


@dataclass(frozen=True)
class GradcheckReport:
    """The outcome of a check, true when every part passed. ``max_error`` is the largest relative error."""

    results: tuple[GradcheckResult, ...]
    rtol: float
    note: str = ""

    @property
    def passed(self) -> bool:
        return bool(self.results) and all(r.passed for r in self.results)

    @property
    def max_error(self) -> float:
        return max((r.error for r in self.results), default=math.inf)

    def __bool__(self) -> bool:
        return self.passed

    def __str__(self) -> str:
        verdict = "passed" if self.passed else "FAILED"
        head = f"gradcheck {verdict}: largest relative error {self.max_error:.1e}, allowed {self.rtol:.0e}"
        return "\n".join([head + (f" ({self.note})" if self.note else ""), *(f"  {r}" for r in self.results)])


def unusable(name: str, gradient, shape: tuple[int, ...]) -> GradcheckResult | None:
    """What makes a gradient wrong before any number is compared."""
    if gradient.dtype != np.float64 or gradient.shape != shape:
        got = f"the gradient is {gradient.dtype} {gradient.shape}, expected float64 {shape}"
        return GradcheckResult(name, False, math.inf, got)
    bad = np.flatnonzero(~np.isfinite(gradient))
    if bad.size:
        index = tuple(int(i) for i in np.unravel_index(bad[0], shape))
        return GradcheckResult(name, False, math.inf, f"the gradient is {gradient[index]} at {list(index)}", index)
    return None
