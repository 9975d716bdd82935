"""Whether the processes of a run would compute the same: what train compares before its first update."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from loopos.distributed.alone import Alone, DifferentRank
from loopos.run.alike import compare
from loopos.run.settings import TrainSettings

from .report import FAIL, OK, Check

EXPECTED = "the same build, instruction set, configuration, data and weights on each"
ADVICE = "loopos train refuses this before its first update"


def check_ranks(ranks: Alone, model: Any, data: Any, settings: TrainSettings, given: Mapping[str, Any]) -> Check:
    """In every process at the same time; the arguments are those of loopos.run.alike.compare."""
    try:
        compare(ranks, model, data, settings, given)
    except DifferentRank as error:
        return differs(error)
    return Check("ranks", f"{ranks.size} ranks have the same", EXPECTED, OK)


def differs(error: DifferentRank) -> Check:
    """The check that failed by this error."""
    return Check("ranks", str(error).removeprefix("train: "), EXPECTED, FAIL, ADVICE)
