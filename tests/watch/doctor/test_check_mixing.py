"""Each fault that loopos/watch/doctor/check_mixing.py is for is planted, and told by its own check."""

from __future__ import annotations

import pytest

pytestmark = pytest.mark.reference
torch = pytest.importorskip("torch")

from watched.judged_doctor import planted_for  # noqa: E402

import loopos  # noqa: E402

test_a_planted_fault_is_told = planted_for("causality", "batch invariance")


def test_a_generate_that_raises_leaves_its_check_out():
    class Generates(torch.nn.Embedding):
        def generate(self, ids):
            """Without max_new_tokens."""

    model = Generates(8, 8)
    batch = {"input_ids": torch.arange(8)[None]}
    optimizer = torch.optim.SGD(model.parameters(), 0.01)
    report = loopos.watch.doctor(model, optimizer, batch, lambda m, b: m(b["input_ids"]).square().mean())
    assert (report["generation"].verdict, "TypeError" in report["generation"].measured) == ("skipped", True)
