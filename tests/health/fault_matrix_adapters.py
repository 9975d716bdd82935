"""Adapters: a weight of theirs, their forward pass and gradients. What is not adapted is as in the other files."""

from __future__ import annotations

import numpy as np
from fault_stage import AT, Place, Stage, fault

import loopos

PRODUCT = "product overflow"


def adapted(**options):
    """Rank 4 on every projection, in which nothing acts yet: A and B are 0."""
    stage = Stage()
    stage.model.add_adapter(loopos.LoRA(4, 4, **options))
    stage.w = stage.model.parameters()
    for name, view in stage.w.items():
        if name.endswith(("lora_A", "lora_B")):
            view[:] = 0
    return stage


@fault(
    "weight",
    "blocks.1.attn.k_proj.lora_B is nan",
    Place("forward", 1, "parameter", "blocks.1.attn.k_proj.lora_B", (7, 2)),
    "weight not finite",
)
def matrix():
    stage = adapted()
    stage.w["blocks.1.attn.k_proj.lora_B"][7, 2] = np.nan
    return stage.step()


@fault(
    "natural",
    "LoRA of v, first block: A x",
    Place("forward", 0, "low_rank", "blocks.0.attn.qkv_proj.Ax", (*AT, 8 + 1)),  # behind four of q and four of k
    PRODUCT,
)
def inner():
    stage = adapted()
    stage.w["blocks.0.attn.v_proj.lora_A"][1, 3] = 1e38
    return stage.step()


@fault(
    "natural",
    "LoRA of up, last block: B A x",
    Place("forward", 1, "low_rank", "blocks.1.mlp.gate_up_proj.y", (*AT, 48 + 5)),
    PRODUCT,
)
def outer():
    stage = adapted()
    stage.w["blocks.1.mlp.up_proj.lora_A"][1, 3] = 1e19
    stage.w["blocks.1.mlp.up_proj.lora_B"][5, 1] = 1e20
    return stage.step()


@fault(
    "natural",
    "DoRA of q, first block: magnitude over a length near 0",
    Place("forward", 0, "dora", "blocks.0.attn.qkv_proj.gain", (9,)),
    PRODUCT,
)
def gain():
    stage = adapted(dora=True, targets=("q_proj",))
    stage.w["blocks.0.attn.qkv_proj.weight"][9] *= np.float32(1e-20)
    stage.model._core.adapter_enabled(True)  # lengths are taken anew
    stage.w["blocks.0.attn.q_proj.lora_magnitude"][9] = 1e20
    return stage.step()


@fault(
    "natural",
    "DoRA of a row of zeros",
    Place("forward", 0, "dora", "blocks.0.attn.o_proj.gain", (3,)),
    "0/0",
)
def no_direction():
    return adapted(dora=True, targets=("o_proj",)).step()  # row 3 of o_proj is 0 on this stage


@fault(
    "natural",
    "DoRA of gate, last block: the row scaled",
    Place("forward", 1, "dora", "blocks.1.mlp.gate_up_proj.y", (*AT, 9)),
    PRODUCT,
)
def scaled():
    stage = adapted(dora=True, targets=("gate_proj",))
    stage.rows("blocks.1.mlp.gate_up_proj.weight", 9)[9, 3] = 1
    stage.model._core.adapter_enabled(True)
    stage.w["blocks.1.mlp.gate_proj.lora_magnitude"][9] = 1e38
    return stage.step()


@fault(
    "natural",
    "LoRA of down, last block: gradient of B",
    Place("backward", 1, "low_rank", "blocks.1.mlp.down_proj.lora_B", (6, 1)),
    PRODUCT,
)
def gradient():
    stage = adapted().only_target().steep(1e6)
    stage.rows("blocks.1.mlp.gate_up_proj.weight", 9, 57)[[9, 57], 3] = 1.3e15
    stage.w["blocks.1.mlp.down_proj.weight"][:, 9] = 0
    stage.w["tok_embed.weight"][7, 6] = 0.05
    stage.w["blocks.1.mlp.down_proj.lora_A"][1, 9] = 1
    return stage.step()
