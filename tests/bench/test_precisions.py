"""Which precisions are measured on a machine, what is said of them, and whom each is compared with."""

from __future__ import annotations

import pytest

from loopos import _core
from loopos.bench import precisions, process, suites, tables
from loopos.bench.precisions import PRECISIONS

TILES = {"float32": "fma", "bf16x3": "tiles bf16x3", "bf16": "tiles bf16"}


@pytest.fixture
def tiles(monkeypatch):
    """A machine that has them, as far as the benchmarks can see."""
    monkeypatch.setattr(precisions, "computed", TILES.__getitem__)
    monkeypatch.setattr(precisions, "why_not", lambda: "")


def test_the_core_is_asked(monkeypatch):
    monkeypatch.undo()
    assert [precisions.computed(each) for each in PRECISIONS] == [_core.products(each) for each in PRECISIONS]
    assert precisions.why_not() == _core.products_info()["why"]


def test_names():
    assert precisions.named(None) == ["float32", "bf16x3", "bf16"]
    assert precisions.named("bf16,float32,bf16") == ["float32", "bf16"]
    with pytest.raises(ValueError, match="out of float32, bf16x3, bf16, got 'bfloat16'"):
        precisions.named("float32,bfloat16")


def test_our_engine_stands_for_every_precision_that_is_computed_apart(tiles):
    peers = ["torch", "loopos", "jax"]
    assert precisions.engines(peers, PRECISIONS) == ["torch", "loopos", "loopos-bf16x3", "loopos-bf16", "jax"]
    assert precisions.engines(peers, ["bf16"]) == ["torch", "loopos-bf16", "jax"]
    assert precisions.engines(["torch"], PRECISIONS) == ["torch"]


def test_without_tiles_float32_is_measured_once_and_that_is_said():
    assert precisions.engines(["loopos", "torch"], PRECISIONS) == ["loopos", "torch"]
    assert precisions.engines(["loopos"], ["bf16x3", "bf16"]) == ["loopos"]
    assert precisions.sentence(precisions.describe(PRECISIONS)) == (
        "Products: float32 fma. bf16x3 and bf16 are computed as float32 here, which is measured once: this processor "
        "has no AMX tiles."
    )
    assert "bf16 is computed as float32" in precisions.sentence(precisions.describe(["bf16"]))


def test_what_was_computed_is_said(tiles, monkeypatch):
    told = precisions.sentence(precisions.describe(PRECISIONS))
    assert told == "Products: float32 fma, bf16x3 tiles bf16x3, bf16 tiles bf16."
    assert precisions.sentence(precisions.describe(["float32"])) == "Products: float32 fma."
    monkeypatch.setattr(precisions, "computed", lambda each: TILES[each].replace("tiles", "emulated"))
    monkeypatch.setattr(precisions, "why_not", lambda: "LOOPOS_PRODUCTS=emulated")
    told = precisions.sentence(precisions.describe(["bf16"]))
    assert told == "Products: bf16 emulated bf16. No tiles: LOOPOS_PRODUCTS=emulated."


def test_every_engine_computes_in_its_own_precision():
    for precision, name in precisions.OURS.items():
        assert process.PEERS[name].precision == precision
        assert process.PEERS[name].program == "ours"
    assert {rival for each in precisions.RIVALS.values() for rival in each} <= process.PEERS.keys()
    assert [process.PEERS[name].precision for name in precisions.RIVALS["bf16x3"]] == ["float32", "float32"]


def test_each_is_beside_the_better_of_its_rivals():
    seconds = {"loopos": 2, "loopos-bf16x3": 1, "loopos-bf16": 0.5, "torch": 4, "torch-compiled": 3}
    seconds |= {"torch-medium": 2, "torch-autocast": 1.5, "jax": 0.1}
    peers = [{"peer": name, "x": value} for name, value in seconds.items()]
    ratios = [precisions.beside(peers, each, lambda peer: peer["x"]) for each in PRECISIONS]
    assert ratios == [1.5, 3.0, 3.0]
    assert precisions.beside(peers[:1], "float32", lambda peer: peer["x"]) is None
    assert precisions.beside(peers[3:], "float32", lambda peer: peer["x"]) is None


def test_a_run_measures_and_tells_all(tiles):
    result = suites.run("steps", setting="tiny", peers="loopos", rounds=1, steps=1)
    (each,) = result["settings"]
    assert [peer["peer"] for peer in each["peers"]] == ["loopos", "loopos-bf16x3", "loopos-bf16"]
    assert [peer["engine"].partition(" ")[2].split(" ")[1:] for peer in each["peers"]] == [[], ["bf16x3"], ["bf16"]]
    assert result["precisions"] == {"computed": TILES, "why": ""}
    assert "Products: float32 fma, bf16x3 tiles bf16x3, bf16 tiles bf16." in tables.render(result)
    assert "precisions" not in suites.run("generate", setting="tiny", peers="loopos", rounds=1, steps=1)


def test_no_other_suite_takes_a_precision():
    with pytest.raises(ValueError, match="a precision is for steps, ops, pictures, not for scaling"):
        suites.run("scaling", precision="bf16")
    with pytest.raises(ValueError, match="products alone are for ops, not for steps"):
        suites.run("steps", products=True)
    with pytest.raises(ValueError, match="precision must be names with commas between"):
        suites.run("steps", precision="")
