"""Shared by the tests of the command line."""

from __future__ import annotations

import pytest


@pytest.fixture(scope="module")
def text(tmp_path_factory):
    """The path of a small text."""
    path = tmp_path_factory.mktemp("text") / "text.txt"
    path.write_text("to be or not to be, that is the question.\n" * 40)
    return str(path)
