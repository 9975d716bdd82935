"""Models of each family with an adapter that does something."""

from __future__ import annotations

import numpy as np
from hf_sizes import SMALL

import loopos
from loopos import hf
from loopos.hf.settings import config_from_json

SOME = {  # modules that are not all, by family
    "gpt2": ("c_attn", "mlp.c_proj"),
    "gpt_neox": ("query_key_value", "dense_4h_to_h"),
    "phi3": ("qkv_proj", "gate_up_proj"),
}
IDS = np.random.default_rng(5).integers(0, 23, (2, 12))


def some(family: str) -> tuple[str, ...]:
    return SOME.get(family, ("q_proj", "v_proj", "up_proj"))


def base(family="llama", seed=3, **how) -> loopos.Model:
    """Far enough from its initialization that every tensor matters."""
    model = loopos.Model(config_from_json("config.json", SMALL[family]), seed=seed, **how)
    model.accompany(hf.Source(SMALL[family]))  # without it phi3 would be written as llama
    stir(model.parameters(), seed)
    return model


def stir(views, seed=0, by=0.2) -> None:
    rng = np.random.default_rng(seed)
    for view in views.values():
        view += (by * rng.standard_normal(view.shape)).astype(view.dtype)


def adapted(spec, family="llama", **how) -> loopos.Model:
    model = base(family, **how)
    model.add_adapter(spec, seed=1)
    stir(model.adapter_parameters(), seed=2)
    return model
