"""Weights and the forward pass: each operation, first and last block."""

from __future__ import annotations

import numpy as np
from fault_stage import AT, GPT, LLAMA, Place, Stage, fault

from loopos import testing

PRODUCT, SUM = "product overflow", "sum overflow"


def poke(name, index, value, family=LLAMA, **more):
    def run():
        stage = Stage(family, **more)
        stage.w[name][index] = value
        return stage.step()

    return run


for name, index, value, layer, family in (
    ("tok_embed.weight", (7, 3), np.nan, None, LLAMA),
    ("pos_embed.weight", (4, 3), np.inf, None, LLAMA),
    ("blocks.0.attn.qkv_proj.weight", (95, 31), np.nan, 0, LLAMA),
    ("blocks.1.mlp.down_proj.weight", (2, 7), -np.inf, 1, LLAMA),
    ("blocks.1.mlp_norm.bias", (31,), np.nan, 1, GPT),
    ("final_norm.weight", (5,), np.nan, None, LLAMA),
    ("lm_head.weight", (20, 3), np.nan, None, LLAMA),
):
    fault("weight", f"{name} is {value}", Place("forward", layer, "parameter", name, index), "weight not finite")(
        poke(name, index, value, family)
    )


@fault(
    "weight",
    "NaN in the embedding of a token that no batch holds",
    Place("forward", None, "parameter", "tok_embed.weight", (0, 3)),
    "weight not finite",
)
def untouched():
    stage = Stage()
    stage.w["tok_embed.weight"][0, 3] = np.nan
    return stage.train()


for what, name, index, layer, tensor, at, family in (
    ("q, k, v projection, first block", "blocks.0.attn.qkv_proj", (5, 3), 0, "blocks.0.attn.qkv_proj.y", 5, LLAMA),
    (
        "gate and up projection, last block",
        "blocks.1.mlp.gate_up_proj",
        (9, 3),
        1,
        "blocks.1.mlp.gate_up_proj.y",
        9,
        LLAMA,
    ),
    ("up projection, last block", "blocks.1.mlp.up_proj", (9, 3), 1, "blocks.1.mlp.up_proj.y", 9, GPT),
    ("logits", "lm_head", (20, 3), None, "logits", 20, LLAMA),
):
    for value in (1e38, -1e38):
        fault(
            "natural",
            f"{what}: {'inf' if value > 0 else '-inf'} from a weight of {value:.0e}",
            Place("forward", layer, "linear", tensor, (*AT, at)),
            PRODUCT,
        )(poke(f"{name}.weight", index, value, family))


@fault(
    "natural",
    "q, k, v projection: products of both signs overflow",
    Place("forward", 0, "linear", "blocks.0.attn.qkv_proj.y", (*AT, 5)),
    PRODUCT,
)
def both_signs():
    stage = Stage(channels=(3, 8))
    stage.w["blocks.0.attn_norm.weight"][:] = 10
    stage.w["blocks.0.attn.qkv_proj.weight"][5, [3, 8]] = 1e38, -1e38
    return stage.step()


@fault(
    "natural",
    "output projection of attention, last block",
    Place("forward", 1, "linear", "blocks.1.attn.o_proj.y", (*AT, 11)),
    PRODUCT,
)
def output_projection():
    stage = Stage()
    stage.rows("blocks.1.attn.qkv_proj.weight", 64)[64, 3] = 100
    stage.w["blocks.1.attn.o_proj.weight"][11, 0] = 3e38
    return stage.step()


@fault(
    "natural",
    "down projection, last block",
    Place("forward", 1, "linear", "blocks.1.mlp.down_proj.y", (*AT, 12)),
    PRODUCT,
)
def down_projection():
    stage = Stage()
    stage.rows("blocks.1.mlp.gate_up_proj.weight", 9, 57)[[9, 57], 3] = 10
    stage.w["blocks.1.mlp.down_proj.weight"][12, 9] = 3e38
    return stage.step()


@fault(
    "natural", "swiglu, first block: gate times up", Place("forward", 0, "swiglu", "blocks.0.mlp.y", (*AT, 9)), PRODUCT
)
def swiglu():
    stage = Stage()
    stage.rows("blocks.0.mlp.gate_up_proj.weight", 9, 57)[[9, 57], 3] = 1e20
    return stage.step()


def scores(sign, at, layer):
    def run():
        stage = Stage(at=(at,))
        weight = stage.rows(f"blocks.{layer}.attn.qkv_proj.weight", 0, 32)
        weight[0, 3], weight[32, 3] = 1e20, sign * 1e20
        return stage.step()

    row, token = at
    tensor, index = f"blocks.{layer}.attn.scores", (row, 0, token, token)
    said = "inf" if sign > 0 else "-inf, as if masked" if token else "-inf at the only key, as if all were masked"
    block = "last" if layer else "first"
    fault("natural", f"score, {block} block: {said}", Place("forward", layer, "attention", tensor, index), PRODUCT)(run)


scores(1, AT, 1)
scores(-1, AT, 1)
scores(-1, (1, 0), 0)


@fault("natural", "rope, first block", Place("forward", 0, "rope", "blocks.0.attn.qkv", (*AT, 4)), SUM)
def rope():
    stage = Stage(position="rope")
    stage.rows("blocks.0.attn.qkv_proj.weight", 0, 4)[[0, 4], 3] = 5.95e37
    return stage.step()


fault("natural", "rms norm, last block", Place("forward", 1, "rms_norm", "blocks.1.attn_norm.y", (*AT, 3)), PRODUCT)(
    poke("blocks.1.attn_norm.weight", (3,), 1e38)
)
fault("natural", "layer norm, final", Place("forward", None, "layer_norm", "final_norm.y", (*AT, 3)), PRODUCT)(
    poke("final_norm.weight", (3,), 1e38, GPT)
)


@fault(
    "natural", "layer norm, first block: bias", Place("forward", 0, "layer_norm", "blocks.0.mlp_norm.y", (*AT, 3)), SUM
)
def norm_bias():
    stage = Stage(GPT)
    stage.w["blocks.0.mlp_norm.weight"][3], stage.w["blocks.0.mlp_norm.bias"][3] = 5e37, 2e38
    return stage.step()


def residual(layer, branch, projection):
    def run():
        stage = Stage(GPT)
        stage.w["tok_embed.weight"][7, 3] = 3e38
        stage.w[f"blocks.{layer}.{projection}.bias"][3] = 2e38
        return stage.step()

    place = Place("forward", layer, "add", f"blocks.{layer}.{branch}.y", (*AT, 3))
    fault("natural", f"residual of {projection}, {'last' if layer else 'first'} block", place, SUM)(run)


residual(0, "attn_residual", "attn.o_proj")
residual(1, "mlp_residual", "mlp.down_proj")


@fault("natural", "token plus position", Place("forward", None, "embedding", "embed.y", (*AT, 3)), SUM)
def embedding():
    stage = Stage()
    stage.w["tok_embed.weight"][7, 3] = stage.w["pos_embed.weight"][4, 3] = 2e38
    return stage.step()


@fault("natural", "loss of a token, float64", Place("forward", None, "cross_entropy", "loss", AT), SUM)
def token_loss():
    stage = Stage(dtype="float64")
    stage.w["lm_head.weight"][[20, 21], 3] = 2.65e307, -2.65e307
    stage.targets[AT] = 21
    return stage.step()


def two_losses():
    stage = Stage(dtype="float64", at=((0, 2), AT))
    stage.w["lm_head.weight"][20, 3] = 2.6e307
    stage.targets[0, 2] = stage.targets[AT] = 22
    return stage


TOTAL = Place("forward", None, "cross_entropy", "loss", ())
fault("natural", "sum of finite losses, loss_and_grads", TOTAL, SUM)(lambda: two_losses().step())
fault("natural", "sum of finite losses, train", TOTAL, SUM)(lambda: two_losses().train())


def plant(family, place, value, **more):
    def run():
        stage = Stage(family, **more)
        with testing.planted(stage.model, place.tensor, place.index, value, phase=place.phase, op=place.op):
            return stage.step()

    fault("planted", f"{value} in {place.tensor}", place, "unknown")(run)


for layer in range(2):
    for part, op, value in (
        ("attn_norm.y", "rms_norm", np.nan),
        ("attn.qkv_proj.y", "linear", np.inf),
        ("attn.y", "attention", np.nan),
        ("attn_residual.y", "add", -np.inf),
        ("mlp.y", "swiglu", np.nan),
    ):
        plant(LLAMA, Place("forward", layer, op, f"blocks.{layer}.{part}", (*AT, 5)), value)
plant(GPT, Place("forward", 1, "gelu", "blocks.1.mlp.y", (*AT, 5)), np.nan)
plant(LLAMA, Place("forward", 0, "rope", "blocks.0.attn.qkv", (*AT, 40)), np.inf, position="rope")
plant(LLAMA, Place("forward", None, "embedding", "embed.y", (0, 0, 0)), np.nan)
plant(LLAMA, Place("forward", None, "linear", "logits", (*AT, 30)), -np.inf)
plant(LLAMA, Place("forward", None, "cross_entropy", "loss", AT), np.nan)
