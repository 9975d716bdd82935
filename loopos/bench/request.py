"""What a suite is asked to measure."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from typing import NamedTuple

from .picture_settings import PictureSetting
from .settings import Setting


class Request(NamedTuple):
    """settings: models to measure; peers: names of engines; threads: of every engine; rounds: turns of each; steps: of
    one turn, None: as many as the suite takes; report: called with what is being done; model: a Hugging Face folder,
    of the suites that measure one model; products: of the suite ops, nothing but the matrix products."""

    settings: Sequence[Setting | PictureSetting]
    peers: Sequence[str]
    threads: int
    rounds: int
    steps: int | None
    report: Callable[[str], None]
    model: str | None = None
    products: bool = False
