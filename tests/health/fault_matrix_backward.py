"""The backward pass: each operation, weights' gradients, sums over places and micro-batches, the norm."""

from __future__ import annotations

import numpy as np
from fault_stage import AT, GPT, LLAMA, Place, Stage, fault

from loopos import testing

PRODUCT, SUM = "product overflow", "sum overflow"


@fault("natural", "head: dx", Place("backward", None, "linear", "lm_head.dx", (*AT, 3)), SUM)
def head_dx():
    stage = Stage().only_target()
    stage.w["lm_head.weight"][:, 3] = 3e38
    stage.w["lm_head.weight"][20, 3] = -3e38
    stage.w["final_norm.weight"][3] = 1e-39
    return stage.step()


@fault(
    "natural",
    "final norm: gradient of its weight",
    Place("backward", None, "rms_norm", "final_norm.weight", (3,)),
    PRODUCT,
)
def norm_weight():
    stage = Stage().only_target()
    stage.w["lm_head.weight"][:, 3] = 1e38
    stage.w["lm_head.weight"][20, 3] = -1e38
    stage.w["final_norm.weight"][3] = 1e-39
    return stage.step()


@fault(
    "natural",
    "final norm: dx through a large 1 / deviation",
    Place("backward", None, "rms_norm", "final_norm.dx", (*AT, 3)),
    "eps floor active",  # the row has a variance of 3e-8
)
def norm_dx():
    stage = Stage().only_target().without_branches()
    stage.w["tok_embed.weight"][7, 3] = 1e-3
    stage.w["pos_embed.weight"][:] = 0
    stage.w["lm_head.weight"][21, 3] = 1e37
    return stage.step()


@fault(
    "natural",
    "down projection, last block: gradient of its weight",
    Place("backward", 1, "linear", "blocks.1.mlp.down_proj.weight", (6, 9)),
    PRODUCT,
)
def projection_weight():
    stage = Stage().only_target().steep(1e6)
    stage.w["pos_embed.weight"][:] = 0
    stage.rows("blocks.1.mlp.gate_up_proj.weight", 9, 57)[[9, 57], 3] = 1.3e15
    stage.w["blocks.1.mlp.down_proj.weight"][:, 9] = 0
    stage.w["tok_embed.weight"][7, 6] = 0.05
    return stage.step()


@fault(
    "natural",
    "down projection, last block: dx",
    Place("backward", 1, "linear", "blocks.1.mlp.down_proj.dx", (*AT, 9)),
    PRODUCT,
)
def projection_dx():
    stage = Stage().only_target().steep(1e8)
    stage.rows("blocks.1.mlp.gate_up_proj.weight", 9, 57)  # a hidden number of 0: the forward pass never meets the 3e38
    stage.w["blocks.1.mlp.down_proj.weight"][6, 9] = 3e38
    return stage.step()


@fault("natural", "swiglu, last block: dgate", Place("backward", 1, "swiglu", "blocks.1.mlp.dx", (*AT, 9)), PRODUCT)
def swiglu():
    stage = Stage().only_target().steep(1e3)
    stage.rows("blocks.1.mlp.gate_up_proj.weight", 9, 57)[57, 3] = 1e30
    stage.w["blocks.1.mlp.down_proj.weight"][6, 9] = 1e10
    return stage.step()


@fault(
    "natural",
    "attention, first block: probability 0",
    Place("backward", 0, "attention", "blocks.0.attn.dqkv", (*AT, 0)),
    "0*inf",
)
def vanished_probability():
    stage = Stage().only_target().steep(1e3)
    stage.w["tok_embed.weight"][:, 5] = 1
    stage.w["tok_embed.weight"][7, 6] = 0.05
    stage.w["pos_embed.weight"][:] = 0
    weight = stage.rows("blocks.0.attn.qkv_proj.weight", 0, 32, 64)
    weight[0, 5], weight[32, 3], weight[64, 3] = 100, -1e4, 7e37
    stage.w["blocks.0.attn.o_proj.weight"][6, 0] = 1e3
    return stage.step()


def flat_stream(dtype, scale, only_one):
    """Nothing but embedding, norm and head."""
    stage = Stage(dtype=dtype).without_branches()
    for layer in range(2):
        for name in ("attn.qkv_proj", "mlp.gate_up_proj"):
            stage.w[f"blocks.{layer}.{name}.weight"][:] = 0
    stage.w["pos_embed.weight"][:] = 0
    stage.w["lm_head.weight"][:] = 0
    stage.w["lm_head.weight"][21, 3] = scale
    if only_one:  # position 4 alone has gradients, in both sequences
        stage.only_target().targets[0, 4] = 20
        stage.w["tok_embed.weight"][:] = 0
        stage.w["pos_embed.weight"][4, 3] = 1e-3
    else:
        stage.ids[...], stage.targets[...] = 7, 20
        stage.w["tok_embed.weight"][7, 3] = 1e-3
    return stage


def scaled_to_overflow(table, only_one, dtype="float32", top=5e38):
    """In float64 the gradient is measured, which is linear in the scale: then it is scaled to be ``top``. The terms of
    a sum of 5e38 fit into float32, the sum does not."""
    stage = flat_stream("float64", 1e33, only_one)
    measured = abs(stage.model.loss_and_grads(stage.ids, stage.targets)[1][table]).max()
    return flat_stream(dtype, 1e33 / measured * top, only_one)


@fault(
    "natural",
    "embedding: sum over the places of a token",
    Place("backward", None, "embedding", "tok_embed.weight", (7, 3)),
    SUM,
)
def token_sum():
    return scaled_to_overflow("tok_embed.weight", False).step()


@fault(
    "natural",
    "position table: sum over the batch",
    Place("backward", None, "embedding", "pos_embed.weight", (4, 3)),
    SUM,
)
def position_sum():
    return scaled_to_overflow("pos_embed.weight", True).step()


@fault("natural", "sum over two micro-batches", Place("backward", None, "accumulate", "tok_embed.weight", (7, 3)), SUM)
def micro_batches():
    return scaled_to_overflow("tok_embed.weight", False).train(grad_accum=2)


@fault(
    "natural", "global norm beyond float64", Place("backward", None, "global_norm", "grad_norm", ()), "norm overflow"
)
def global_norm():
    """The largest gradient is 1.75e308; six of a sixth of it stand beside it."""
    return scaled_to_overflow("tok_embed.weight", False, dtype="float64", top=1.75e308).step()


def plant(family, place, value, **more):
    def run():
        stage = Stage(family, **more)
        with testing.planted(stage.model, place.tensor, place.index, value, phase="backward", op=place.op):
            return stage.step()

    fault("planted", f"{value} in {place.tensor}", place, "unknown")(run)


for layer in range(2):
    for part, op, index, value in (
        ("attn_norm.dx", "rms_norm", (*AT, 5), np.nan),
        ("attn.dqkv", "attention", (*AT, 70), np.inf),
        ("attn.o_proj.dx", "linear", (*AT, 5), np.nan),
        ("mlp.dx", "swiglu", (*AT, 5), -np.inf),
        ("mlp.gate_up_proj.weight", "linear", (8, 9), np.nan),
        ("mlp_norm.weight", "rms_norm", (9,), np.inf),
    ):
        plant(LLAMA, Place("backward", layer, op, f"blocks.{layer}.{part}", index), value)
plant(GPT, Place("backward", 0, "gelu", "blocks.0.mlp.dx", (*AT, 5)), np.nan)
plant(GPT, Place("backward", 1, "linear", "blocks.1.attn.o_proj.bias", (5,)), np.nan)
plant(GPT, Place("backward", None, "layer_norm", "final_norm.bias", (5,)), np.inf)
plant(LLAMA, Place("backward", 1, "rope", "blocks.1.attn.dqkv", (*AT, 40)), np.nan, position="rope")
plant(LLAMA, Place("backward", None, "cross_entropy", "dlogits", (*AT, 30)), np.inf)
plant(LLAMA, Place("backward", None, "embedding", "tok_embed.weight", (7, 5)), np.nan)
