"""What the doctor says, as text and as plain data."""

from __future__ import annotations

import json

import pytest

from loopos.health.doctor.report import FAIL, OK, SKIPPED, WARN, Check, DoctorReport


def test_the_report_reads_well_and_is_plain_data():
    checks = (
        Check("a", "1", "1", OK, "said only where something is wrong"),
        Check("b", "2", "1", WARN, "do this"),
        Check("c", "3", "1", FAIL, "do that"),
        Check("d", "no data", "", SKIPPED),
    )
    report = DoctorReport(checks, 0.25)
    assert str(report).splitlines() == [
        "ok   a: 1; expected 1",
        "WARN b: 2; expected 1",
        "     do this",
        "FAIL c: 3; expected 1",
        "     do that",
        "-    d: skipped, no data",
        "doctor: 1 checks passed, 1 failed, 1 with a warning, 1 skipped in 0.25 s",
    ]
    assert not report.ok
    assert DoctorReport(checks[:2], 0.1).ok  # a warning is no failure
    data = json.loads(json.dumps(report.to_dict()))
    assert data["ok"] is False
    assert [check["verdict"] for check in data["checks"]] == ["ok", "warn", "fail", "skipped"]
    with pytest.raises(KeyError, match="there are a, b, c, d"):
        report["e"]
    with pytest.raises(ValueError, match="verdict"):
        Check("a", "", "", "fine")
