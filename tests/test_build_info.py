"""show_config() says what runs."""

from __future__ import annotations

import loopos


def test_it_prints_and_returns_the_facts(capsys, thread_count):
    thread_count(3)
    facts = loopos.show_config()
    shown = capsys.readouterr().out
    assert facts["threads"] == 3
    assert facts["isa"] in facts["isa_available"]
    assert facts["isa_available"][0] == "baseline"
    assert facts["loopos"] == loopos.__version__
    for name in ("isa", "threads", "compiler", "eigen", "numpy"):
        assert name in shown
        assert str(facts[name]) in shown
