"""Each fault that loopos/watch/doctor/check_batch.py is for is planted, and told by its own check."""

from __future__ import annotations

import pytest

pytestmark = pytest.mark.reference
torch = pytest.importorskip("torch")

from watched.judged_doctor import planted_for  # noqa: E402

test_a_planted_fault_is_told = planted_for(
    "inputs", "batch is left alone", "loss", "shapes in the loss", "loss is not 0"
)
