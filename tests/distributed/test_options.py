"""The argument ``distributed`` of train."""

from __future__ import annotations

import pytest

import loopos
from loopos.distributed import Distributed


def test_auto_and_none():
    assert Distributed.of(None) is None
    assert Distributed.of("auto") == Distributed()
    assert Distributed.of(Distributed(timeout=3)).timeout == 3
    assert Distributed(fast_reduce=True).to_dict()["fast_reduce"] is True
    assert loopos.Distributed is Distributed


@pytest.mark.parametrize(
    ("given", "error", "says"),
    [
        ("mpi", ValueError, "distributed must be None, 'auto' or a loopos.Distributed, got 'mpi'"),
        (4, TypeError, "distributed must be None"),
        (True, TypeError, "distributed must be None"),
    ],
)
def test_anything_else_is_refused(given, error, says):
    with pytest.raises(error, match=says):
        Distributed.of(given)


def test_its_parts_are_checked():
    with pytest.raises(TypeError, match="fast_reduce must be True or False"):
        Distributed(fast_reduce=1)
    with pytest.raises(ValueError, match="wire must be one of 'float32', 'bfloat16', got 'int8'"):
        Distributed(wire="int8")
    with pytest.raises(ValueError, match="wire='bfloat16' is added along the tree"):
        Distributed(wire="bfloat16", fast_reduce=True)
    for timeout in (0, 1e10):
        with pytest.raises(ValueError, match=r"timeout must be a finite number greater than 0 and at most 1e\+09"):
            Distributed(timeout=timeout)
