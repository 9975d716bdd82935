"""How the cost of a step grows: with threads, with the length of a sequence, with the size of the model."""

from __future__ import annotations

from typing import Any

from . import steps as training
from .request import Request
from .settings import Setting
from .steps import Entrant

ENGINES = ("loopos", "torch")
DEFAULT = ("baby", "wide")
LENGTHS = (64, 128, 256, 512, 1024, 2048, 4096)
LENGTH_TOKENS = 4096  # of every step, so that only attention grows with the length
LENGTH_LAYERS = 2
WIDTHS = (64, 128, 256, 512, 1024)
WIDTH_LAYERS, HEAD_WIDTH = 4, 64


def measure(asked: Request) -> dict[str, Any]:
    """Three series of :func:`loopos.bench.steps.compare`.

    threads: each setting with 1, 2, 4 ... and all threads, all by turns. length: the first setting with
    two layers and LENGTHS, always 4,096 tokens a step. size: the first setting's vocabulary, length and batch with four
    layers and WIDTHS. The last two with all threads."""
    how: dict[str, Any] = {"rounds": asked.rounds, "steps": asked.steps, "report": asked.report}
    settings, threads = asked.settings, asked.threads
    counts = thread_counts(threads)
    everyone = [Entrant(peer, count) for peer in asked.peers for count in counts]
    series = {"threads": [training.compare(each, everyone, **how) for each in settings]}
    with_all = [Entrant(peer, threads) for peer in asked.peers]
    for name, derived in (("length", by_length(settings[0])), ("size", by_size(settings[0]))):
        series[name] = [training.compare(each, with_all, **how) for each in derived]
    absent = {
        (each["peer"], each["threads"], each["reason"])
        for part in series.values()
        for x in part
        for each in x["absent"]
    }
    return {
        "series": series,
        "absent": [dict(zip(("peer", "threads", "reason"), each, strict=True)) for each in sorted(absent)],
    }


def thread_counts(most: int) -> list[int]:
    """The powers of two below ``most``, and it."""
    return sorted({most, *(1 << i for i in range(most.bit_length()) if 1 << i < most)})


def by_length(base: Setting) -> list[Setting]:
    return [
        base.resized(f"T {length}", context_length=length, n_layer=LENGTH_LAYERS, batch=LENGTH_TOKENS // length)
        for length in LENGTHS
    ]


def by_size(base: Setting) -> list[Setting]:
    return [
        base.resized(f"C {width}", d_model=width, n_layer=WIDTH_LAYERS, n_head=max(1, width // HEAD_WIDTH))
        for width in WIDTHS
    ]
