"""Ids through the core's key/value cache, and logits that no token can be chosen from."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from typing import Any

import numpy as np

from loopos.births.birth import birth_from
from loopos.errors import NonFiniteError

BLOCK = 256  # positions of a prompt that go through the model at once: what they need in memory does not grow with it


def feed(core: Any, ids: np.ndarray, check: Callable[[], None] = lambda: None) -> np.ndarray:
    """Logits (B, V) after the last of further ids (B, T). check: called before each block, and may raise."""
    logits = np.empty(0)
    for at in range(0, ids.shape[1], BLOCK):
        check()
        logits = core.next_logits(ids[:, at : at + BLOCK])
    return logits


def refuse_nonfinite(
    core: Any,
    rows: Sequence[np.ndarray],
    logits: np.ndarray,
    alive: np.ndarray | None = None,
    *,
    where: str = "generate",
    given: Mapping[str, Any] | None = None,
) -> None:
    """A NaN has no rank: NonFiniteError where a row of logits (B, V) that is alive is not finite. It says where the
    number came from. rows: the ids that gave them; given: what else did, by name, where all rows are of one length;
    where: how the message begins."""
    bad = ~np.isfinite(logits)
    if alive is not None:
        bad &= alive[:, None]
    if not bad.any():
        return
    row, token = (int(i) for i in np.argwhere(bad)[0])
    alike = len({len(ids) for ids in rows}) == 1
    ids = np.stack(rows) if alike else np.asarray(rows[row])[None]
    found = core.trace(np.ascontiguousarray(ids), np.ascontiguousarray(ids), scale=1.0, **(given or {}))
    if found is None or found["phase"] != "forward":
        found = {
            "phase": "forward",
            "layer": None,
            "op": "linear",
            "tensor": "logits",
            "index": (row, len(rows[row]) - 1, token),
            "value": float(logits[row, token]),
        }
    elif not alike and found["op"] != "parameter":
        found = {**found, "index": (row, *found["index"][1:])}
    birth = birth_from(found, None, core=core)
    raise NonFiniteError(birth, f"{where}: a logit is not finite, so no token can be chosen. {birth}")
