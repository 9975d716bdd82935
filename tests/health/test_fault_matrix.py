"""docs/faults.md, one fault at a time: the place exact in all, the cause in nine of ten and more."""

from __future__ import annotations

from pathlib import Path

import pytest
from fault_matrix import FAULTS, table
from fault_stage import Fault, Place, Stage, answer

DOCUMENT = Path(__file__).resolve().parents[2] / "docs/faults.md"


@pytest.mark.parametrize("fault", FAULTS, ids=lambda fault: f"{fault.group}: {fault.name}")
def test_a_fault_is_named_where_and_why(fault: Fault):
    got = answer(fault.run)
    assert got.place == fault.expected, got.words
    if isinstance(fault.expected, Place):
        assert got.cause == fault.cause, got.words


def test_the_matrix_is_large_and_knows_its_classes():
    births = [fault for fault in FAULTS if isinstance(fault.expected, Place)]
    natural = [fault for fault in births if fault.group != "planted"]
    assert len(natural) >= 40
    assert len({fault.cause for fault in natural}) >= 8
    assert {fault.expected.phase for fault in natural} == {"forward", "backward", "update"}
    names = [(fault.group, fault.name, str(fault.expected)) for fault in FAULTS]
    assert len(set(names)) == len(names)


def test_the_stage_itself_is_healthy():
    assert answer(Stage().step).place is None


def test_the_published_table_is_what_this_build_answers():
    assert DOCUMENT.read_text() == table(), "run python tests/health/fault_matrix.py > docs/faults.md"
