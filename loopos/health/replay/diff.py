"""Where two runs part: the first step whose numbers are not the same bits, and what is different there.

bits.jsonl holds loss and gradient norm of every step in full. A run that has none is compared by its metrics.jsonl: it
holds float64 in the shortest digits that give the same bits back, so equal text is equal bits, and null for a number
that is not finite, so that two nulls count as the same.
"""

from __future__ import annotations

import math
import os
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from loopos.errors import CheckpointError
from loopos.health.runs import Run, checkpoints, read_bits, read_run, weights_digest
from loopos.precision import UNITS, same_bits
from loopos.run.checkpoint import load_checkpoint
from loopos.run.metrics import BITS

from .rounding import beyond_rounding

FROM_SEED = 200  # steps that are done again where there is no checkpoint to begin with
Lines = tuple[dict[int, dict[str, Any]], dict[int, dict[str, Any]]]  # of both runs, by step

# In the order of one update: what differs first in it is nearest to the cause.
FIELDS = ("learning_rate", "valid_tokens", "loss_hex", "loss", "grad_norm_hex", "grad_norm", "nonfinite", "eval_loss")


@dataclass(frozen=True)
class Comparison:
    """same: every step is in both runs and has the same bits. step: the first that differs, or None; fields: (name, in
    A, in B) of what differs at it; common: steps in both; only_a, only_b: steps that the other lacks; checkpoint: the
    newest step before the difference of which both runs have a checkpoint; weights_equal: whether those hold the same
    weights, None when that is unknown; damaged: sentences on lines that could not be read; causes: sentences on
    what else differs, before and in that step; lacking: what would be needed to name the operation, or "";
    beyond_rounding: of runs on different instruction sets, or with other products, whose bits cannot agree, the first
    step that is further apart than rounding explains, or None."""

    step: int | None
    fields: tuple[tuple[str, Any, Any], ...]
    common: int
    only_a: tuple[int, ...]
    only_b: tuple[int, ...]
    checkpoint: int | None
    weights_equal: bool | None
    damaged: tuple[str, ...]
    causes: tuple[str, ...] = ()
    lacking: str = ""
    beyond_rounding: int | None = None

    @property
    def same(self) -> bool:
        return self.step is None and not self.only_a and not self.only_b

    def __str__(self) -> str:
        lines = []
        if self.step is None:
            lines.append(f"the same bits at all {self.common} steps that both runs logged")
        else:
            lines.append(f"the first step that differs is {self.step}, of {self.common} that both runs logged")
            lines += [f"  {name}: {_shown(a)} in A, {_shown(b)} in B{_apart(a, b)}" for name, a, b in self.fields]
            if self.checkpoint is None:
                lines.append("they have no checkpoint of the same step before it")
            else:
                equal = {True: "the same weights", False: "weights that differ already", None: "weights not compared"}
                said = equal[self.weights_equal]
                lines.append(f"both runs have a checkpoint of step {self.checkpoint} before it ({said})")
        lines += [*self.causes, *filter(None, [self.lacking])]
        for name, steps in (("A", self.only_a), ("B", self.only_b)):
            if steps:
                lines.append(f"only in {name}: {_ranges(steps)}")
        return "\n".join([*lines, *self.damaged])


def diff(run_a: str | os.PathLike, run_b: str | os.PathLike, *, data: Any = None) -> Comparison:
    """Compare two runs (their folders, or metrics.jsonl files) step by step.

    data: what both learned, as :func:`loopos.train` takes it. With it the runs are done again side by side, from the
    newest step before the difference of which both have a checkpoint, or from their seed when there is none and the
    difference is in the first FROM_SEED steps: the first input and the first operation that differ are named.

    ValueError when they have no step in common, or the data are not those of the runs; OSError and CheckpointError when
    one cannot be read."""
    a, b = read_run(run_a), read_run(run_b)
    damaged = [f"{name}: {text}" for name, run in (("A", a), ("B", b)) for text in run.damaged]
    of_a, of_b = a.by_step(), b.by_step()
    whole = [None if Path(given).is_file() else read_bits(run) for given, run in ((run_a, a), (run_b, b))]
    if all(whole):  # one that has bits is not compared by them with one that has none
        damaged += [f"{name}: {BITS}: {t}" for name, run in zip("AB", whole, strict=True) for t in run.damaged]
        of_a, of_b = (_joined(bits.by_step(), logged) for bits, logged in zip(whole, (of_a, of_b), strict=True))
    common = [step for step in of_a if step in of_b]
    if not common:
        raise ValueError(
            f"diff: {run_a} and {run_b} have no step in common: {_extent(of_a)} against {_extent(of_b)}; "
            "compare runs that were logged at the same steps (log_every)"
        )
    first = next((step for step in common if _differing(of_a[step], of_b[step])), None)
    only = [tuple(step for step in x if step not in y) for x, y in ((of_a, of_b), (of_b, of_a))]
    if first is None:
        return Comparison(None, (), len(common), only[0], only[1], None, None, tuple(damaged))
    checkpoint, equal = common_checkpoint(a, b, first)
    parted = _beyond_rounding(a, b, (of_a, of_b), common, data)
    causes, lacking, beyond = parted or (*_causes(a, b, first, checkpoint, data, (of_a, of_b)), None)
    found = _differing(of_a[first], of_b[first])
    return Comparison(
        first, found, len(common), only[0], only[1], checkpoint, equal, tuple(damaged), causes, lacking, beyond
    )


def _joined(bits: dict[int, dict[str, Any]], logged: dict[int, dict[str, Any]]) -> dict[int, dict[str, Any]]:
    return {step: bits.get(step, {}) | logged.get(step, {}) for step in sorted(bits.keys() | logged.keys())}


def _later(a: Run, b: Run, step: int) -> list[Path]:
    """Of each run the checkpoint that tells its settings in ``step``; none of one that has no checkpoint."""
    both = checkpoints(a.folder), checkpoints(b.folder)
    return [each[min((s for s in each if s >= step), default=max(each))] for each in both if each]


def _beyond_rounding(
    a: Run, b: Run, lines: Lines, common: list[int], data: Any
) -> tuple[tuple[str, ...], str, int | None] | None:
    """(sentences, what is lacking to say more, the first step beyond rounding) of two runs of different instruction
    sets, or whose products were computed otherwise though their precision is the same; None of others."""
    from . import side_by_side

    later = _later(a, b, common[0])
    computed = [side_by_side.computed(each) for each in later]
    if len(computed) < 2 or None in computed:
        return None
    x, y = computed
    products = x.precision == y.precision and not same_bits(x.products, y.products)
    if x.isa == y.isa and not products:
        return None
    unit = side_by_side.unit_of(later[0])
    if products:
        unit = max(unit, UNITS[x.precision] / 8)  # a loss is a sum of many, whose errors even out
    rounding = beyond_rounding(*lines, common, unit)
    what = "different kinds of products" if products else "different instruction sets"
    said = f"bits of {what} cannot be compared, as their sums round otherwise; {rounding}"
    if rounding.step is None:  # nothing is to be looked for
        return (*side_by_side.differing_settings(*later), said), "", None
    # Both are done again here, so that what is computed here can be compared with the record of the same kind alone.
    recorded = tuple(log if each.is_here() else {} for log, each in zip(lines, computed, strict=True))
    causes, lacking = _causes(a, b, rounding.step, None, data, recorded)
    return (*causes, said), lacking, rounding.step


def _causes(a: Run, b: Run, step: int, checkpoint: int | None, data: Any, lines: Lines) -> tuple[tuple[str, ...], str]:
    """(sentences on what differs, what is lacking to say more)."""
    from . import side_by_side  # here, because only this needs a model
    from .rerun import Rerun

    of_a, of_b = checkpoints(a.folder), checkpoints(b.folder)
    if not of_a or not of_b:
        return (), "what parted them cannot be looked for: both need a checkpoint (output_dir, save_every)"
    at = [each[max(each) if checkpoint is None else checkpoint] for each in (of_a, of_b)]
    later = _later(a, b, step)
    causes = side_by_side.differing_settings(*later)
    if any(cause.startswith(side_by_side.INCOMPARABLE) for cause in causes):
        return causes, ""  # they have no step in common that could be done again
    if checkpoint is None and step > FROM_SEED:
        return causes, (
            f"to name the operation, both need a checkpoint of one step before step {step}, and a run keeps its newest "
            f"three: do both again with save_every=1 (--save-every 1) and stop them at step {step}"
        )
    if data is None:
        return causes, "to name the operation, the data that both learned are needed: data= (--data)"
    try:
        pairs = [[load_checkpoint(path) for path in pair] for pair in zip(at, later, strict=True)]
        reruns = [Rerun(start, data, from_seed=checkpoint is None, later=end) for start, end in pairs]
    except CheckpointError as error:  # what is known without it is known all the same
        return causes, f"to name the operation, a checkpoint is needed that can be read: {error}"
    return causes + side_by_side.recompute(*reruns, step, lines), ""


def common_checkpoint(a: Run, b: Run, step: int) -> tuple[int | None, bool | None]:
    """(the newest step before ``step`` of which both have a checkpoint, whether its weights are the same). From here a
    replay of both can find the first operation that differs."""
    of_a, of_b = checkpoints(a.folder), checkpoints(b.folder)
    both = [each for each in of_a if each in of_b and each < step]
    if not both:
        return None, None
    digests = [weights_digest(each[max(both)]) for each in (of_a, of_b)]
    return max(both), None if None in digests else digests[0] == digests[1]


def _differing(a: dict[str, Any], b: dict[str, Any]) -> tuple[tuple[str, Any, Any], ...]:
    """A field that one side lacks is not compared: it may have been written by another version. A number of which the
    bits differ is named by them alone."""
    names = [name for name in FIELDS if name in a and name in b and not _equal(a[name], b[name])]
    return tuple((name, a[name], b[name]) for name in names if f"{name}_hex" not in names)


def _equal(a: Any, b: Any) -> bool:
    if (
        isinstance(a, (int, float))
        and isinstance(b, (int, float))
        and not isinstance(a, bool)
        and not isinstance(b, bool)
    ):
        return float(a).hex() == float(b).hex()  # -0.0 is not 0.0
    return type(a) is type(b) and a == b


def _shown(value: Any) -> str:
    if isinstance(value, float):
        return f"{value!r} ({value.hex()})"
    if isinstance(number := _number(value), float):
        return f"{value} ({number!r})"
    return "not finite (null)" if value is None else str(value)[:80]


def _number(value: Any) -> Any:
    """A number that is written as ``float.hex`` as that number; all else as it is."""
    try:
        return float.fromhex(value) if isinstance(value, str) else value
    except (ValueError, OverflowError):
        return value


def _apart(a: Any, b: Any) -> str:
    a, b = _number(a), _number(b)
    if not (isinstance(a, float) and isinstance(b, float) and math.isfinite(a) and math.isfinite(b)):
        return ""
    size = max(abs(a), abs(b))
    return f", {abs(a - b) / size:.1e} apart relatively" if size > 0 else ""


def _ranges(steps: tuple[int, ...]) -> str:
    count = f"{len(steps)} step{'s' if len(steps) != 1 else ''}"
    listed = ", ".join(map(str, steps)) if len(steps) <= 8 else f"{steps[0]}, {steps[1]}, ..., {steps[-1]}"
    return f"{count} ({listed})"


def _extent(records: dict[int, Any]) -> str:
    return f"steps {min(records)} to {max(records)}" if records else "no sound line"
