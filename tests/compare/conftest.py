"""One small comparison, done once: what it wrote is looked at by several tests."""

from __future__ import annotations

from pathlib import Path

import pytest
from comparisons import small_task

from loopos.compare import Comparison, page


@pytest.fixture(scope="session")
def text(tmp_path_factory) -> Path:
    path = tmp_path_factory.mktemp("text") / "text.txt"
    path.write_text("to be or not to be, that is the question.\n" * 60)
    return path


@pytest.fixture(scope="session")
def done(text, tmp_path_factory):
    """(comparison, what it told, its summary): adamw with a usual rate, sgd with one that goes bad, two seeds."""
    told: list[str] = []
    rates, folder = {"adamw": 0.003, "sgd": 1e30}, tmp_path_factory.mktemp("compared")
    comparison = Comparison(small_task(text), ["sgd", "adamw"], folder, seeds=2, rates=rates, tell=told.append)
    summary = comparison.run()
    page.write(summary, folder, "small & quick")
    return comparison, told, summary
