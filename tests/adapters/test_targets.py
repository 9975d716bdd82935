"""Names of modules: which are meant, and how a choice is spelt."""

from __future__ import annotations

import pytest
from hf_sizes import SMALL

from loopos.adapters.targets import choose, names_of, spell
from loopos.hf.linears import linears
from loopos.hf.settings import config_from_json


def modules(family):
    return linears(config_from_json("config.json", SMALL[family]), family)


def ends(chosen):
    return [each.module.split(".", 3)[-1] for each in chosen if ".0." in each.module]


def test_names_are_ends_of_dotted_names():
    llama, gpt2 = modules("llama"), modules("gpt2")
    assert len(choose("", llama, "all-linear")) == 14
    assert ends(choose("", llama, "attention")) == [f"self_attn.{x}_proj" for x in "qkvo"]
    assert ends(choose("", llama, ("v_proj", "q_proj"))) == ["self_attn.q_proj", "self_attn.v_proj"]
    assert ends(choose("", gpt2, ("c_proj",))) == ["attn.c_proj", "mlp.c_proj"]
    assert ends(choose("", gpt2, ("mlp.c_proj",))) == ["mlp.c_proj"]
    assert ends(choose("", gpt2, "attention")) == ["attn.c_attn", "attn.c_proj"]
    (one,) = choose("", llama, ("model.layers.1.mlp.up_proj",))
    assert one.name == "blocks.1.mlp.up_proj"


@pytest.mark.parametrize("name", ["c_attn", "proj", "lm_head", "model.layers.0", "layers.9.mlp.up_proj"])
def test_another_name_is_told_with_all_there_are(name):
    with pytest.raises(ValueError, match="this model has no ") as caught:
        choose("Model.add_adapter", modules("llama"), ("q_proj", name))
    said = str(caught.value)
    assert f"has no {name};" in said
    assert "all-linear, attention, q_proj, k_proj, v_proj, o_proj, gate_proj, up_proj, down_proj" in said
    assert "model.layers.0.self_attn.q_proj" in said


@pytest.mark.parametrize("family", SMALL)
def test_a_choice_that_is_spelt_is_the_same_choice(family):
    every = modules(family)
    choices = [every, choose("", every, "attention"), every[:1], every[1:], every[::2], every[3:4], every[-2:]]
    for chosen in choices:
        assert choose("", every, spell(every, chosen)) == chosen
        assert choose("", every, names_of(every, chosen)) == chosen
    assert spell(every, every) == "all-linear"
    assert spell(every, choices[1]) == "attention"
