"""The residual stream, computed again from the parameters."""

from __future__ import annotations

import numpy as np

import loopos
from loopos.health.doctor.stream import stream


def test_the_stream_is_the_core_s(family, batch):
    for dtype, allowed in (("float32", 2e-6), ("float64", 1e-14)):
        model, (ids, _) = loopos.Model(family, dtype=dtype), batch(family)
        layers, logits = stream(family, model.parameters(), ids)
        assert len(layers) == family.n_layer + 1
        assert np.abs(logits - model.forward(ids)).max() <= allowed * np.abs(logits).max()
