"""Numbers, shares and the machine as the tables have them. Columns are tested with the tables."""

from __future__ import annotations

import pytest

from loopos.bench import cells


@pytest.mark.parametrize(
    ("value", "text"),
    [
        (None, "-"),
        (0.0, "0.00"),
        (123456.7, "123,457"),
        (99.96, "100.0"),
        (12.34, "12.3"),
        (9.876, "9.88"),
        (0.1234, "0.12"),
        (0.01234, "0.012"),
        (0.0001234, "0.00012"),
    ],
)
def test_numbers(value, text):
    assert cells.number(value) == text


def test_percents():
    assert [cells.percent(share) for share in (0.01234, 0.0999, 0.5, 1.234)] == ["1.2 %", "10.0 %", "50 %", "123 %"]


def test_time_that_others_had_is_told():
    speeds = {"median": 2e9, "min": 1e9, "max": 3e9}
    result = {"threads": 2, "flops_per_second": speeds, "bytes_per_second": speeds, "array_bytes": 64 << 20}
    assert cells.limits(result | {"stolen": None}) == cells.limits(result)  # also of files that do not have it
    assert cells.limits(result | {"stolen": 0.234}) == (
        cells.limits(result) + "; 23 % of the time went to other machines"
    )
