"""What only products of bfloat16 pieces could get wrong: numbers that are finite in float32 and inf in bfloat16, beside
zeros, which inf turns into NaN. Place, cause and silence have to be those of float32.

The largest bfloat16 is 3.3895e38. 3.395e38 rounds to it, 3.4e38 to inf; of two pieces the second is then -inf.
"""

from __future__ import annotations

from fault_stage import AT, LLAMA, Place, Stage, fault

from loopos import testing

PRODUCT = "product overflow"
MLP, ATTENTION = "blocks.1.mlp", "blocks.1.attn"


def alone(stage, name, *entries):
    """The weight with nothing in it but these entries: everything else is a product with 0."""
    stage.w[name][:] = 0
    for row, column, value in entries:
        stage.w[name][row, column] = value
    return stage


def in_x(precision, value, weight):
    """A row of x has the value in channel 5; y reads it in channel 9 alone, and nobody reads that."""

    def run():
        stage = alone(Stage(precision=precision), f"{MLP}.gate_up_proj.weight", (9, 5, weight))
        stage.w[f"{MLP}.down_proj.weight"][:, 9] = 0
        with testing.planted(stage.model, f"{MLP}_norm.y", (*AT, 5), value, flag=False):
            return stage.step()

    return run


def in_weight(precision, value, scale):
    """The norm's gain in channel 3 makes x there 5.6 times ``scale`` at one place, and 0 elsewhere."""

    def run():
        stage = Stage(precision=precision)
        stage.w[f"{ATTENTION}_norm.weight"][3] = scale
        stage.rows(f"{ATTENTION}.qkv_proj.weight", 69)[69, 3] = value  # of v
        stage.w[f"{ATTENTION}.o_proj.weight"][:, 5] = 0
        return stage.step()

    return run


def in_dy(precision, value, weight, gain):
    """dy has the value at one place in channel 9. gain: of x in channel 3, which is 0 but at that place; all other
    channels of x are small. weight: what dx is multiplied with, in channel 8."""

    def run():
        stage = alone(Stage(precision=precision), f"{MLP}.gate_up_proj.weight", (9, 8, weight))
        stage.w[f"{MLP}_norm.weight"][:] = 1e-6
        stage.w[f"{MLP}_norm.weight"][3] = gain
        with testing.planted(stage.model, f"{MLP}.dx", (*AT, 9), value, phase="backward", flag=False):
            return stage.step()

    return run


def in_score(precision, value, key):
    """A query has the value in channel 0; channel 0 of every key is 0 but at that place. One head of 32 channels."""

    def run():
        stage = Stage(LLAMA, n_head=1, precision=precision)
        stage.rows(f"{ATTENTION}.qkv_proj.weight", 32)[32, 3] = key
        with testing.planted(stage.model, f"{ATTENTION}.qkv_proj.y", (*AT, 0), value, flag=False):
            return stage.step()

    return run


y, dx = (Place("forward", 1, "linear", f"{MLP}.gate_up_proj.y", (*AT, 9)), f"{MLP}.gate_up_proj.dx")
for precision in ("bf16x3", "bf16"):
    for value in (3.395e38, 3.4e38, -3.4e38):
        number = f"{value:.4g}".replace("e+", "e")
        for what, run, place in (
            (f"{number} in x, times 2", in_x(precision, value, 2.0), y),
            (f"{number} in x, times 0.5", in_x(precision, value, 0.5), None),
            (
                f"{number} in a weight, times 5.6",
                in_weight(precision, value, 1.0),
                Place("forward", 1, "linear", f"{ATTENTION}.qkv_proj.y", (*AT, 69)),
            ),
            (f"{number} in a weight, times 0.56", in_weight(precision, value, 0.1), None),
            (
                f"{number} in dy, times 2",
                in_dy(precision, value, 2.0, 1e-6),
                Place("backward", 1, "linear", dx, (*AT, 8)),
            ),
            (
                f"{number} in dy, times an x of 5.6",
                in_dy(precision, value, 0.0, 1.0),
                Place("backward", 1, "linear", f"{MLP}.gate_up_proj.weight", (9, 3)),
            ),
            (
                f"{number} in a query, times a key of 110",
                in_score(precision, value, 20.0),
                Place("forward", 1, "attention", f"{ATTENTION}.scores", (1, 0, 4, 4)),
            ),
            (f"{number} in a query, times a key of 0.56", in_score(precision, value, 0.1), None),
        ):
            fault("products", f"{precision}: {what}", place, place and PRODUCT)(run)
    fault("products", f"{precision}: 1e20 times 1e20", y, PRODUCT)(in_x(precision, 1e20, 1e20))
    fault("products", f"{precision}: 1e-20 times 1e-20, a denormal", None)(in_x(precision, 1e-20, 1e-20))
