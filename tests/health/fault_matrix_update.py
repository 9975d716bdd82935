"""The optimizer, data and labels, and what is no fault at all."""

from __future__ import annotations

import numpy as np
from fault_stage import GPT, LLAMA, Place, Stage, fault

import loopos
from loopos import ops, optim, testing

NAME, ELEMENT = "blocks.1.b.weight", (1, 0)


def stepped(kind, gradient, weight=1.0, **options):
    def run():
        parameters = {"a.weight": np.ones(3, np.float32), NAME: np.full((2, 2), weight, np.float32)}
        gradients = {"a.weight": np.full(3, 0.1, np.float32), NAME: np.full((2, 2), 0.1, np.float32)}
        gradients[NAME][ELEMENT] = gradient
        getattr(optim, kind)(parameters, **options).step(gradients)
        return parameters[NAME]

    return run


def update(op, index=ELEMENT, phase="update"):
    return Place(phase, 1, op, NAME, index)


fault("update", "SGD with a rate of 1e38", update("sgd"), "learning rate too large")(stepped("SGD", 10, lr=1e38))
fault("update", "Adam: the square of a gradient", update("adam"), "product overflow")(stepped("Adam", 1e21, lr=1e-3))
fault("update", "Adam: eps 0 and no gradient", update("adam"), "0/0")(stepped("Adam", 0, lr=1e-3, eps=0))
fault("update", "SGD: a step onto a weight near the limit", update("sgd"), "sum overflow")(
    stepped("SGD", -3e38, weight=3e38, lr=1.0)
)
fault("update", "a NaN gradient handed in", update("gradient", phase="backward"), "input not finite")(
    stepped("AdamW", np.nan)
)
fault("update", "a weight that is inf already", update("sgd", (0, 0)), "weight not finite")(
    stepped("SGD", 0.1, weight=np.inf, lr=1e-3)
)
fault(
    "update",
    "an inf handed to clip_grad_norm_",
    Place("backward", None, "clip_grad_norm_", "b", (1,)),
    "input not finite",
)(lambda: ops.clip_grad_norm_({"a": np.ones(2), "b": np.array([1, np.inf])}, 1.0))


@fault(
    "update",
    "train with a rate of 1e300",
    Place("update", None, "adamw", "tok_embed.weight", (0, 0)),
    "learning rate too large",
)
def rate_beyond_the_dtype():
    stage = Stage()
    stage.ids[...] = 7
    return stage.train(learning_rate=1e300, weight_decay=0.0)


@fault(
    "update",
    "train with a rate of 1e22: weights explode, the next forward overflows",
    Place("forward", 0, "linear", "blocks.0.attn.qkv_proj.y", (0, 0, 64)),
    "learning rate too large",
)
def rate_too_large():
    return Stage(GPT).train(optimizer="sgd", learning_rate=1e22, max_steps=20, weight_decay=0.0)


@fault("update", "a second moment below 0", ValueError)
def second_moment():
    adam = optim.Adam({"a": np.ones(2)}, 1e-3)
    adam.step({"a": np.ones(2)})
    state = adam.state_dict()
    state["exp_avg_sq.a"][0] = -1
    adam.load_state_dict(state)


def spoiled(**changes):
    def run():
        stage = Stage()

        class Data:
            def batch(_, step, micro):
                return stage.ids, stage.targets

        loopos.train(stage.model, testing.Spoiled(Data(), step=3, **changes), max_steps=4, progress=False)

    return run


fault("data", "label 31 of 31 in the third batch", IndexError)(spoiled(targets={(1, 4): 31}))
fault("data", "label -1 in the third batch", IndexError)(spoiled(targets={(1, 4): -1}))
fault("data", "id 99 in the third batch", IndexError)(spoiled(ids={(1, 4): 99}))


@fault("data", "every label masked", UserWarning)
def masked():
    stage = Stage()
    stage.targets[...] = -100
    return stage.train()


# Operations return what they compute, and these steps are healthy


@fault("healthy", "softmax of a row with inf: an operation returns NaN", None)
def softmax():
    assert np.isnan(ops.softmax(np.array([[0, np.inf, 1]]))).all()


@fault("healthy", "attention with a row that is masked whole: 0, and counted", None)
def masked_row():
    before = loopos.guard_counts()["attention"]
    mask = np.array([[True, True], [False, False]])
    assert not ops.attention(*np.ones((3, 1, 1, 2, 2)), mask=mask)[0][0, 0, 1].any()
    assert loopos.guard_counts()["attention"] == before + 1


@fault("healthy", "layer norm of a stream of 1e30", None)
def large_stream():
    stage = Stage(GPT)
    stage.w["tok_embed.weight"][7, 3] = 1e30
    return stage.step()


@fault("healthy", "gelu of 1e20", None)
def large_gelu():
    stage = Stage(GPT)
    stage.w["blocks.1.mlp.up_proj.bias"][9] = 1e20
    stage.w["blocks.1.mlp.down_proj.weight"][:, 9] = 0
    return stage.step()


@fault("healthy", "a denormal in the stream", None)
def denormal():
    stage = Stage(LLAMA)
    with testing.planted(stage.model, "blocks.0.attn_residual.y", (0, 1, 2), testing.DENORMAL):
        return stage.step()


@fault("healthy", "rows below a norm's eps: counted", None)
def eps_floor():
    for name, norm in (("layer_norm_eps", ops.layer_norm), ("rms_norm_eps", ops.rms_norm)):
        before = loopos.guard_counts()[name]
        norm(np.array([[1e-4] * 8, [1.0, -1.0] * 4], np.float32))
        assert loopos.guard_counts()[name] == before + 1, name
