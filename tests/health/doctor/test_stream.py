"""The residual stream, computed again from the parameters."""

from __future__ import annotations

import numpy as np
import pytest
from variants import VARIANTS

import loopos
from loopos.health.doctor.stream import stream


def test_the_stream_is_the_core_s(family, batch):
    for dtype, allowed in (("float32", 2e-6), ("float64", 1e-14)):
        model, (ids, _) = loopos.Model(family, dtype=dtype), batch(family)
        layers, logits = stream(family, model.parameters(), ids)
        assert len(layers) == family.n_layer + 1
        assert np.abs(logits - model.forward(ids)).max() <= allowed * np.abs(logits).max()


@pytest.mark.parametrize("options", VARIANTS.values(), ids=VARIANTS)
def test_of_every_choice(options):
    config = loopos.ModelConfig(vocab_size=19, context_length=12, n_layer=2, n_head=4, d_model=16, **options)
    model, rng = loopos.Model(config, dtype="float64"), np.random.default_rng(0)
    for view in model.parameters().values():
        view += 0.2 * rng.standard_normal(view.shape)
    ids = rng.integers(0, 19, (2, 12))
    logits = stream(config, model.parameters(), ids)[1]
    np.testing.assert_allclose(logits, model.forward(ids), rtol=0, atol=1e-13 * np.abs(logits).max())
