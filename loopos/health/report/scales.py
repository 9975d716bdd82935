"""The scale ledger of a run that predicts covariances: how large each named matrix was, in training and evaluation."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from typing import Any

from loopos.covariance.pipeline import STAGES

from .charts import Points, chart

_CHARTS = (  # quantity of the ledger, title, logarithmic
    ("norm", "scale ledger: Frobenius norm of each matrix, mean over the batch", True),
    ("trace", "scale ledger: trace", False),
    ("smallest", "scale ledger: smallest eigenvalue, of the sample with the largest norm", False),
    ("condition", "scale ledger: condition number, of the same", True),
)


def scale_charts(
    records: Sequence[Mapping[str, Any]], curve: Callable[[Sequence[Mapping[str, Any]], str], Points]
) -> list[str]:
    """A chart for each quantity; none where the log has no ledger. curve(records, name): the points of a number."""
    if not any(f"{STAGES[0]}_norm" in record for record in records):
        return []
    told = []
    for quantity, title, logarithmic in _CHARTS:
        curves = {f"R_{name}": curve(records, f"{name}_{quantity}") for name in STAGES}
        curves |= {f"R_{name}, evaluated": curve(records, f"eval_{name}_{quantity}") for name in ("samp", "blend")}
        told.append(chart(title, {name: points for name, points in curves.items() if points}, logarithmic=logarithmic))
    alarms = curve(records, "scale_alarms")
    if any(count for _, count in alarms):
        told.append(chart("scale alarms of a step", {"alarms": alarms}))
    return told
