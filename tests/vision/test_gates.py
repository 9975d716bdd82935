"""The ten gates of case 0 on a captioner, in the smaller last batch of an epoch: place and cause exact."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest
from gates import GATES, ROW, SHORT, batches, captioner, table, trained

import loopos


def test_the_last_batch_of_the_epoch_is_smaller():
    assert [len(batches().batch(step).ids) for step in range(4)] == [4, 4, ROW + 1, 4]
    assert batches().steps_per_epoch == SHORT
    assert trained(captioner()).step == 5  # without a fault it goes through


@pytest.mark.parametrize("gate", GATES, ids=lambda gate: gate.name)
def test_a_fault_at_each_gate_is_named(gate, tmp_path):
    with pytest.raises(loopos.NonFiniteError) as caught:
        gate.run(output_dir=tmp_path, save_every=1)
    birth = caught.value.birth
    assert (birth.phase, birth.layer, birth.op, birth.tensor, birth.index) == gate.place
    assert (birth.step, birth.cause_class) == (gate.step, gate.cause)
    saved = loopos.vision.Captioner.load(tmp_path)  # the newest sound checkpoint
    assert all(np.isfinite(view).all() for view in saved.parameters().values())


def test_the_table_of_the_docs_is_this_one():
    docs = Path(__file__).parents[2] / "docs" / "captioning.md"
    assert "\n".join(table()) in docs.read_text(encoding="utf-8")
