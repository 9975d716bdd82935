"""What a suite is asked for reaches it whole."""

from __future__ import annotations

from loopos.bench import suites
from loopos.bench.request import Request


def test_a_suite_is_given_what_was_asked(monkeypatch, tmp_path):
    (tmp_path / "config.json").write_text("{}")
    given, said = [], []
    for name in ("ops", "real"):
        kept = suites.SUITES[name]
        monkeypatch.setitem(suites.SUITES, name, kept._replace(measure=lambda asked: given.append(asked) or {}))
    common = {"peers": "loopos", "threads": 3, "rounds": 4, "report": said.append}
    suites.run("ops", setting="nano", steps=5, products=True, **common)
    suites.run("real", model=str(tmp_path), **common)
    one, other = given
    assert isinstance(one, Request)
    assert ([each.name for each in one.settings], list(one.peers)) == (["nano"], ["loopos"])
    assert (one.threads, one.rounds, one.steps, one.model) == (3, 4, 5, None)
    assert (one.products, other.products) == (True, False)
    assert (other.settings, other.steps, other.model) == ([], None, str(tmp_path))
    one.report("word")
    assert said == ["word"]
