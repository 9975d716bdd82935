"""Losses that a model can be judged by: all of them finite."""

from __future__ import annotations

import numpy as np

from loopos.births.birth import birth_from
from loopos.errors import NonFiniteError
from loopos.model import Model


def losses(model: Model, ids: np.ndarray, targets: np.ndarray) -> np.ndarray:
    """As :meth:`loopos.Model.losses`. A model that gives NaN has no score: NonFiniteError says where it arose."""
    found = model.losses(ids, targets)
    bad = ~np.isfinite(found)
    if not bad.any():
        return found
    with model.lock:
        traced = model._core.trace(np.ascontiguousarray(ids), np.ascontiguousarray(targets), scale=1.0)
        if traced is None or traced["phase"] != "forward":
            at = tuple(int(i) for i in np.argwhere(bad)[0])
            place = {"phase": "forward", "layer": None, "op": "cross_entropy", "tensor": "losses"}
            traced = place | {"index": at, "value": float(found[at])}
        birth = birth_from(traced, None, core=model._core)
    raise NonFiniteError(birth, f"eval: a loss is not finite, so the model has no score. {birth}")
