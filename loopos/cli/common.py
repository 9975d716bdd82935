"""What several commands share."""

from __future__ import annotations

import math
from typing import Any

import loopos

SIGTERM = 143  # what train ends with
MAX_SHOWN_LOSS = 20.0  # nats; a perplexity beyond, of nine digits, tells nobody more


def perplexity(loss: float) -> float:
    """Of a mean loss in nats; inf beyond the largest number there is."""
    try:
        return math.exp(loss)
    except OverflowError:
        return math.inf


def in_words(loss: float) -> str:
    return f"{loss:.4f} nats a token" + (f" (perplexity {perplexity(loss):.3f})" if loss < MAX_SHOWN_LOSS else "")


def use_threads(given: dict[str, Any]) -> None:
    threads = given.pop("threads", None)
    if threads is not None:
        loopos.set_num_threads(threads)
