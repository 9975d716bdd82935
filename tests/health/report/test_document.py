"""The frame of every page."""

from __future__ import annotations

from loopos.health.report.document import document


def test_a_page_stands_alone_and_escapes_its_title():
    text = document("a <b>", ["<p>one</p>", "", "<p>two</p>"])
    assert text.startswith("<!doctype html>")
    assert "<title>a &lt;b&gt;</title>" in text
    assert "<body>\n<p>one</p>\n<p>two</p>\n</body>" in text
    for outside in ("http://", "https://", "<script", "<link", "src="):
        assert outside not in text


def test_a_wide_page_has_more_room():
    assert "max-width: 1200px" not in document("t", [])
    assert "max-width: 1200px" in document("t", [], wide=True)
