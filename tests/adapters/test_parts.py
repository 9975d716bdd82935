"""What the core is told of an adapter, and its first values."""

from __future__ import annotations

import numpy as np
import pytest
from hf_sizes import SMALL

from loopos import LoRA
from loopos.adapters.parts import first_values, parts_of
from loopos.adapters.targets import choose
from loopos.hf.linears import linears
from loopos.hf.settings import config_from_json


def parts(spec, family="llama"):
    every = linears(config_from_json("config.json", SMALL[family]), family)
    return parts_of(spec, choose("", every, spec.targets)), every


def empty(parts, every, dtype=np.float32):
    columns = {each.name: each.columns for each in every}
    shapes = {"lora_A": lambda p: (p.rank, columns[p.name]), "lora_B": lambda p: (p.rows, p.rank)}
    shapes["lora_magnitude"] = lambda p: (p.rows,)
    return {name: np.full(shapes[name.rpartition(".")[2]](p), 7, dtype) for p in parts for name in p.parameters}


def test_a_part_is_a_range_of_rows():
    got, _ = parts(LoRA(4, 8, 0.1, targets=("k_proj", "up_proj")))
    assert got[0] == ("blocks.0.attn.qkv_proj", "blocks.0.attn.k_proj", 16, 8, 4, 2.0, 0.1, False)
    assert got[1] == ("blocks.0.mlp.gate_up_proj", "blocks.0.mlp.up_proj", 24, 24, 4, 2.0, 0.1, False)
    assert got[0].parameters == ("blocks.0.attn.k_proj.lora_A", "blocks.0.attn.k_proj.lora_B")


@pytest.mark.parametrize("dora", [False, True])
def test_first_values(dora):
    made, every = parts(LoRA(256, dora=dora))
    weights = {p.name: np.random.default_rng(p.first).normal(size=(p.rows, 5)) for p in made}
    views = {}
    for dtype in (np.float32, np.float64):
        views[dtype] = empty(made, every, dtype)
        first_values(made, views[dtype], lambda p: weights[p.name], seed=2**64 - 1)
    for p in made:
        a, b = (views[np.float32][f"{p.name}.{kind}"] for kind in ("lora_A", "lora_B"))
        assert not b.any()
        bound = a.shape[1] ** -0.5
        assert 0.99 * bound < np.abs(a).max() <= bound
        assert a.std() == pytest.approx(bound / np.sqrt(3), rel=0.05)
        if dora:
            want = np.sqrt((weights[p.name] ** 2).sum(1))
            np.testing.assert_allclose(views[np.float64][f"{p.name}.lora_magnitude"], want, rtol=1e-15)
    for name, view in views[np.float32].items():
        if "magnitude" not in name:
            np.testing.assert_array_equal(view, views[np.float64][name])


def test_each_part_and_each_seed_has_numbers_of_its_own():
    made, every = parts(LoRA(2))
    drawn = []
    for seed in (0, 0, 1):
        views = empty(made, every)
        first_values(made, views, lambda p: np.ones((p.rows, 2)), seed)
        drawn.append([views[f"{p.name}.lora_A"].tobytes() for p in made])
    assert drawn[0] == drawn[1]
    assert len(set(drawn[0] + drawn[2])) == 2 * len(made)
