"""docs/watch.md: its programs and commands run, and print what it says."""

from __future__ import annotations

from pathlib import Path

import pytest
from pages import run_page

pytestmark = pytest.mark.reference
pytest.importorskip("torch")


def test_what_the_page_says_is_what_happens(tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    assert run_page(Path(__file__).resolve().parents[2] / "docs/watch.md", tmp_path) == 7
