"""The test of the faults that some checks of the doctor are for: each is planted, and told by its own check."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import pytest
import torch

from .planted import PLANTED
from .planted_losses import LOSSES


def planted_for(*checks: str) -> Callable[..., Any]:
    """A test function over every planted fault whose check is one of ``checks``, each of which has a fault."""
    faults = [each for each in [*PLANTED, *LOSSES] if each[1] in checks]
    assert faults
    assert {each[1] for each in faults} == set(checks)

    @pytest.mark.parametrize(("make", "check", "words"), faults, ids=[each[0].__name__ for each in faults])
    def test_a_planted_fault_is_told(make: Any, check: str, words: str) -> None:
        torch.manual_seed(0)
        report = make().examined()
        told = [str(each) for each in report.problems if each.name == check]
        assert any(words in each for each in told), report

    return test_a_planted_fault_is_told
