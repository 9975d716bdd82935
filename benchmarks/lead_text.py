"""The texts that the runs of lead_time.py learn from, which stay as they are.

Those whose bounds were chosen learn from what README.md was on that day (lead_readme.txt). The others learn from a text
that is made up: words of syllables, the k-th word 1/k as often as the first, each followed most often by one of a few.
Only ``random.Random.random`` is asked, whose numbers Python promises not to change.
"""

from __future__ import annotations

import random
from functools import cache
from pathlib import Path

import numpy as np

README = Path(__file__).with_name("lead_readme.txt")
WORDS, FOLLOWERS, LENGTH = 300, 6, 40_000
_CONSONANTS, _VOWELS, _ENDS = "bcdfghklmnprstvw", "aeiou", ("", "n", "s", "r", "t")


@cache
def text() -> str:
    """LENGTH letters of ASCII."""
    source = random.Random(18)

    def one_of(choices: str | tuple[str, ...]) -> str:
        return choices[int(source.random() * len(choices))]

    def zipf(count: int) -> int:
        """0 .. count - 1, the k-th about 1 / (k + 1) as often as the first."""
        return min(count - 1, int((count + 1) ** source.random()) - 1)

    words = [
        "".join(one_of(_CONSONANTS) + one_of(_VOWELS) for _ in range(1 + int(source.random() * 3))) + one_of(_ENDS)
        for _ in range(WORDS)
    ]
    followers = [[zipf(WORDS) for _ in range(FOLLOWERS)] for _ in range(WORDS)]
    parts, length, at = [], 0, 0
    while length < LENGTH:
        end = source.random()
        parts.append(words[at] + (".\n" if end < 0.06 else ", " if end < 0.15 else " "))
        length += len(parts[-1])
        at = followers[at][zipf(FOLLOWERS)] if source.random() < 0.8 else zipf(WORDS)
    return "".join(parts)[:LENGTH]


def made_up() -> np.ndarray:
    """Its bytes, as int64."""
    return np.frombuffer(text().encode("ascii"), np.uint8).astype(np.int64)


def readme() -> np.ndarray:
    return np.frombuffer(README.read_bytes(), np.uint8).astype(np.int64)
