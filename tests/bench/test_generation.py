"""loopos bench generate: both engines read one folder and continue one prompt."""

from __future__ import annotations

import json

import pytest

from loopos.bench import generation, suites


def test_a_run_of_our_own_engine(without):
    without("transformers")
    result = suites.run("generate", setting="tiny,tiny-llama", rounds=2, steps=8)
    assert json.loads(json.dumps(result)) == result
    assert (result["prompt"], result["new_tokens"]) == (16, 8)
    for each in result["settings"]:
        (peer,) = each["peers"]
        assert (peer["peer"], peer["agrees_for"]) == ("loopos", 8)
        assert peer["tokens_per_second"] == pytest.approx(8 / peer["seconds"]["median"])
        assert [lost["reason"] for lost in each["absent"]] == ["transformers is not installed"]


@pytest.mark.reference
def test_transformers_writes_the_same_tokens():
    pytest.importorskip("transformers")
    pytest.importorskip("torch")
    (each,) = suites.run("generate", setting="tiny-llama", rounds=1, steps=8)["settings"]
    assert each["absent"] == []
    assert {peer["peer"]: peer["agrees_for"] for peer in each["peers"]} == {"loopos": 8, "transformers": 8}


def test_more_than_the_context_is_refused():
    with pytest.raises(ValueError, match="steps must be at most 8 for generate, got 9"):
        suites.run("generate", setting="tiny", steps=9)


def test_agreement():
    assert generation.agreement([1, 2, 3], [1, 2, 4]) == 2
    assert generation.agreement([1, 2], [1, 2]) == 2
    assert generation.agreement([3], [1]) == 0
