"""Causes on faults at random places, which no rule was written for; and the parts that the matrix does not reach."""

from __future__ import annotations

import numpy as np
import pytest
from fault_stage import GPT, LLAMA, Stage

import loopos

FAMILIES = {"gpt": GPT, "llama": LLAMA, "rope": LLAMA | {"position": "rope", "n_kv_head": 2, "tie_embeddings": True}}


def random_fault(seed, family, dtype):
    """A few rows of up to three weights made larger by a random power of ten."""
    rng = np.random.default_rng(seed)
    stage = Stage(FAMILIES[family], dtype=dtype)
    names = list(stage.w)
    for _ in range(int(rng.integers(1, 4))):
        view = stage.w[names[rng.integers(len(names))]]
        rows = rng.integers(view.shape[0], size=max(1, int(view.shape[0] * rng.random() ** 3)))
        top = 38 if dtype == "float32" else 308
        power = rng.uniform(0.2, 1.0) * top
        with np.errstate(over="ignore"):
            view[rows] = np.nan_to_num(view[rows] * 10.0**power)  # at most the largest number
    try:
        loss, gradients = stage.model.loss_and_grads(stage.ids, stage.targets)
    except loopos.NonFiniteError as error:
        return error.birth
    assert np.isfinite(loss)
    assert all(np.isfinite(gradient).all() for gradient in gradients.values())
    return None


@pytest.mark.filterwarnings("ignore:.*left the range:RuntimeWarning")
@pytest.mark.parametrize("dtype", ["float32", "float64"])
@pytest.mark.parametrize("family", FAMILIES)
def test_a_natural_fault_is_never_of_unknown_cause(family, dtype):
    births = [birth for seed in range(120) if (birth := random_fault(seed, family, dtype)) is not None]
    assert len(births) >= 20
    unknown = [birth for birth in births if birth.cause_class == "unknown"]
    assert not unknown, f"{len(unknown)} of {len(births)}: {unknown[0]}"
