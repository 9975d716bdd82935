"""Single operations against the limits of the machine."""

from __future__ import annotations

import json

import pytest

from loopos.bench import operations, precisions, suites
from loopos.bench.settings import TINY


def test_a_run(without):
    without("torch")
    result = suites.run("ops", setting="tiny,tiny-llama", rounds=2, steps=2)
    assert json.loads(json.dumps(result)) == result
    assert result["absent"][0]["reason"] == "torch is not installed"
    expected = [(name, each.name, each.direction) for name, s in TINY.items() for each in operations.of(s)]
    assert [(each["setting"], each["operation"], each["direction"]) for each in result["operations"]] == expected
    (limits,) = result["limits"]
    peak, memory = (limits[key]["median"] for key in ("flops_per_second", "bytes_per_second"))
    for each in result["operations"]:
        (peer,) = each["peers"]
        least = {"arithmetic": each["flops"] / peak, "memory": each["bytes"] / memory}
        assert least[each["limit"]] == max(least.values())
        assert peer["fraction_of_limit"] == pytest.approx(max(least.values()) / peer["seconds"]["median"])
    expected = [(name, each.name, each.direction) for name, s in TINY.items() for each in operations.products(s)]
    assert [(each["setting"], each["operation"], each["direction"]) for each in result["products"]] == expected
    assert all(each["flops"] > 0 for each in result["products"])


def test_products_alone_in_every_precision(monkeypatch):
    what = {"float32": "fma", "bf16x3": "tiles bf16x3", "bf16": "tiles bf16"}
    monkeypatch.setattr(precisions, "computed", what.__getitem__)
    result = suites.run("ops", setting="tiny", peers="loopos", rounds=1, steps=1, products=True)
    assert result["operations"] == []
    assert result["absent"] == []
    assert list(result["engines"]) == ["loopos", "loopos-bf16x3", "loopos-bf16"]
    for each in result["products"]:
        assert [peer["peer"] for peer in each["peers"]] == list(result["engines"])
        for peer in each["peers"]:
            assert peer["flops_per_second"] == pytest.approx(each["flops"] / peer["seconds"]["median"])
