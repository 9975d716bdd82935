"""Each fault that loopos/watch/doctor/check_mixing.py is for is planted, and told by its own check."""

from __future__ import annotations

import pytest

pytestmark = pytest.mark.reference
torch = pytest.importorskip("torch")

from watched import planted  # noqa: E402

CHECKS = {
    "causality",
    "batch invariance",
}
FAULTS = [each for each in planted.PLANTED if each[1] in CHECKS]


@pytest.mark.parametrize(("make", "check", "words"), FAULTS, ids=[each[0].__name__ for each in FAULTS])
def test_a_planted_fault_is_told(make, check, words):
    torch.manual_seed(0)
    report = make().examined()
    told = [str(each) for each in report.problems if each.name == check]
    assert told, report
    assert any(words in each for each in told), told
