"""show_config() says what runs."""

from __future__ import annotations

import loopos
from loopos import _core


def test_it_prints_and_returns_the_facts(capsys, thread_count):
    thread_count(3)
    facts = loopos.show_config()
    shown = capsys.readouterr().out
    assert facts["threads"] == 3
    assert facts["isa"] in facts["isa_available"]
    assert facts["isa_available"][0] == "baseline"
    assert facts["loopos"] == loopos.__version__
    assert facts["products"] == {each: _core.products(each) for each in ("float32", "bf16x3", "bf16")}
    assert (facts["tiles"] == "in use") == (_core.products_info()["chosen"] == "tiles")
    assert f"bf16x3: {_core.products('bf16x3')}, bf16: " in shown
    for name in ("isa", "tiles", "precision", "threads", "compiler", "eigen", "numpy"):
        assert name in shown
        assert str(facts[name]) in shown
