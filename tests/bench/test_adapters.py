"""loopos bench adapters: a row for each way to train, in a process of its own."""

from __future__ import annotations

import json

import pytest

from loopos.bench import adapters, suites, tables
from loopos.bench.process import PEERS

OURS = [name for name in adapters.ENGINES if PEERS[name].program == "ours"]


@pytest.fixture(scope="module")
def measured():
    return suites.run("adapters", setting="tiny-llama", peers=",".join([*OURS, "peft"]), rounds=2, steps=2)


@pytest.fixture
def rows(measured):
    return {each["peer"]: each for each in measured["peers"]}


def test_a_row_for_each_way_to_train(measured, rows):
    assert json.loads(json.dumps(measured)) == measured
    assert list(rows)[: len(OURS)] == OURS
    assert rows["loopos"]["adapter"] is None
    assert rows["loopos"]["trained"] is None
    matrices = rows["loopos-lora"]["trained"]
    config = measured["model"]["config"]
    assert 0 < matrices < measured["model"]["parameters"]
    assert rows["loopos-lora-int8"]["trained"] == rows["loopos-rslora"]["trained"] == matrices
    for each in rows.values():
        assert len(each["losses"]) == 3  # one that is not timed, and those of a turn
        assert each["peak_rss"] > 1 << 20
        tokens = 4 * config["context_length"]
        assert each["tokens_per_second"] == pytest.approx(tokens / each["seconds"]["median"])
    first = {name: each["losses"][0] for name, each in rows.items() if each["storage"] == "float32" and name != "peft"}
    assert first.pop("loopos-dora") == pytest.approx(first["loopos"], rel=1e-6)  # which divides by lengths it measures
    assert first.pop("loopos-lora-bf16x3") == pytest.approx(first["loopos"], rel=1e-6)
    assert len(set(first.values())) == 1  # B is 0: an adapter begins where the base is
    assert rows["loopos-rslora"]["losses"][1:] != rows["loopos-lora"]["losses"][1:]
    assert rows["loopos-lora-int8"]["losses"][0] != first["loopos"]


def test_the_table_says_what_was_trained_on_what(measured):
    text = tables.render(measured)
    said = [line.split()[2:] for line in text.splitlines() if line.startswith("loopos ")]
    assert said[0][:2] == ["all", "float32"]
    kinds = ["LoRA 8 float32", "rslora 8 float32", "dora 8 float32", "bf16x3 LoRA 8 float32", "LoRA 8 bfloat16"]
    kinds += ["bf16 LoRA 8 bfloat16", "LoRA 8 int8", "LoRA 8 int4"]
    for words, kind in zip(said[1:], kinds, strict=True):
        assert " ".join(words).startswith(kind + " ")
    assert "of peft's RSS" in text


@pytest.mark.reference
def test_peft_trains_as_many_from_the_same_start(measured, rows):
    pytest.importorskip("peft", reason="compares with peft")
    assert rows["peft"]["trained"] == rows["loopos-lora"]["trained"]
    assert rows["peft"]["losses"][0] == pytest.approx(rows["loopos-lora"]["losses"][0], rel=1e-5)


def test_who_is_not_installed_is_named(without):
    without("peft")
    result = suites.run("adapters", setting="tiny-llama", peers="loopos,peft", rounds=1, steps=1)
    assert [each["peer"] for each in result["peers"]] == ["loopos"]
    assert result["absent"][0]["reason"] == "peft is not installed"
    assert "absent: peft" in tables.render(result)
