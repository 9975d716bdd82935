"""Where the loss of a run goes: it falls, it stands, or it climbs back.

How far weights may move depends on it. A run whose loss falls is in order however far they move: its weights began tiny
or at zero, its targets are large, or the first steps are long by design. One whose loss climbs is about to leave, and
moves its weights less than many a healthy run.
"""

from __future__ import annotations

from .window import LATEST, Window, median

FALLS, STANDS, CLIMBS = "falls", "stands", "climbs back"
LOST = 0.075  # of what was learned: from the first loss to the lowest median of LATEST
RISEN = 0.25  # of that lowest median
FEWEST = 4  # losses before which nothing is said of a run


def course(losses: Window, first: float | None, lowest: float) -> str:
    """One of FALLS, STANDS and CLIMBS. losses: of each step, at least two times LATEST are remembered; first: the loss
    of step 1, None where it is not known; lowest: the lowest median of LATEST losses so far.

    It climbs when the median of the last LATEST is above the lowest by more than LOST of what was learned, and by more
    than RISEN of the lowest; it falls when it is below that of the LATEST before; of fewer losses both halves are
    compared."""
    count = len(losses)
    if count < FEWEST:
        return FALLS
    half = min(LATEST, count // 2)
    before, now = losses.values[-2 * half : -half], losses.values[-half:]
    learned = 0.0 if half < LATEST or first is None else first - lowest
    if learned > 0 and losses.latest - lowest > max(LOST * learned, RISEN * abs(lowest)):
        return CLIMBS
    return FALLS if median(now) < median(before) else STANDS
