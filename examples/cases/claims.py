"""What the five cases share: a claim that this run must measure true, a trend test, and the command line."""

from __future__ import annotations

import argparse
import math
import sys
from collections.abc import Callable, Sequence
from typing import Any

import numpy as np

ENOUGH = 20  # losses; below that no trend is claimed
SURE = 3.0  # standard deviations of the test's statistic under "no trend"


class Refuted(AssertionError):
    """A claim that this run did not measure true; the sentence holds the number."""


def claim(true: bool, sentence: str) -> None:
    """Print the sentence if it was measured true, else raise Refuted."""
    if not true:
        raise Refuted(sentence)
    print(f"  - {sentence}")


def verdict(losses: Sequence[float]) -> str:
    """ "learning", "diverging", "flat", "not finite" or "insufficient evidence", by the Mann-Kendall trend test.

    S counts the pairs that rise minus the pairs that fall; without a trend it has mean 0 and variance
    n (n - 1) (2 n + 5) / 18 (Mann 1945, Kendall 1975).
    """
    x = np.asarray(losses, np.float64)
    if not np.isfinite(x).all():
        return "not finite"
    n = len(x)
    if n < ENOUGH:
        return "insufficient evidence"
    s = np.sign(x[None, :] - x[:, None])[np.triu_indices(n, 1)].sum()
    z = s / math.sqrt(n * (n - 1) * (2 * n + 5) / 18)
    return "learning" if z < -SURE else "diverging" if z > SURE else "flat"


def claim_learning(losses: Sequence[float], at_most: float) -> None:
    """The loss before (mean of the first twentieth) and after (of the last), and the verdict of :func:`verdict`."""
    x = np.asarray(losses, np.float64)
    part = max(1, len(x) // 20)
    before, after, said = x[:part].mean(), x[-part:].mean(), verdict(x)
    claim(after < at_most * before, f"loss before {before:.4g}, after {after:.4g}")
    claim(said == "learning", f"verdict of a trend test over {len(x)} losses: {said}")


def main(run: Callable[[bool], Any], story: str | None, draw: Callable[[Any, str], None] | None = None) -> None:
    """``run(fixed)`` makes the claims. Exit code 0 only if all of them held; --skip-fix shows that they can fail. draw:
    is handed what run returned and the folder of --pictures."""
    parser = argparse.ArgumentParser(description=(story or "").strip().splitlines()[0])
    parser.add_argument("--skip-fix", action="store_true", help="leave the cause unrepaired: the last claims must fail")
    if draw is not None:
        parser.add_argument("--pictures", metavar="FOLDER", help="write what was measured as SVG files there")
    asked = parser.parse_args()
    try:
        measured = run(not asked.skip_fix)
    except Refuted as refuted:
        sys.exit(f"refuted in this run: {refuted}")
    if draw is not None and asked.pictures is not None:
        draw(measured, asked.pictures)
    print("every claim was measured true in this run")
