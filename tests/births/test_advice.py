"""Every class of a cause has a remedy, and no remedy is for a class that there is not."""

from __future__ import annotations

import pytest

from loopos.births import advice as module
from loopos.births.advice import advice
from loopos.errors import CAUSES


@pytest.mark.parametrize("kind", CAUSES)
def test_every_cause_has_a_remedy(kind):
    said = advice(kind, "matmul", "x")
    assert len(said.split()) > 5
    assert not said.endswith(".")


def test_there_are_no_others():
    assert set(module._ADVICE) == set(CAUSES)


def test_the_operation_makes_it_more_precise():
    assert "queries and keys" in advice("product overflow", "attention", "blocks.0.attn.scores")
    assert "micro-batches" in advice("sum overflow", "accumulate", "x")
    assert "zero_infinity" in advice("log 0", "aten._ctc_loss", "x", watched=True)
    assert "running variance" in advice("negative root", "aten.native_batch_norm", "x", watched=True)
