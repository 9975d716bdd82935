"""The ten gates of case 0 on a captioner: at each a fault, and what a training says of it.

Ten pictures in batches of 4: the third update, the last of its epoch, has 2, and that is where the faults are. Each
place follows from how the fault is made, not from what the engine answers. ``python tests/support/gates.py`` prints the
table of docs/captioning.md."""

from __future__ import annotations

from collections.abc import Callable
from contextlib import ExitStack
from typing import Any, NamedTuple

import numpy as np

import loopos
from loopos import testing
from loopos.vision import CaptionBatches, Captioner, CaptionerConfig, Shapes, VisionConfig, WordVocabulary

SHAPES = Shapes(12, image_size=16)
WORDS = WordVocabulary.of(caption for index in range(len(SHAPES)) for caption in SHAPES.captions(index))
SHORT = 3  # the update whose batch is smaller, from 1
ROW = 1  # its last picture
UP, DOWN, TABLE = "decoder.blocks.1.mlp.up_proj", "decoder.blocks.1.mlp.down_proj", "decoder.pos_embed.weight"
UNUSED = 31  # a position that no caption reaches: its gradient is 0


def captioner(dtype: str = "float32", fusion: str = "prefix") -> Captioner:
    decoder = loopos.ModelConfig(WORDS.vocab_size + 1, 32, 2, 2, 16)
    return Captioner(CaptionerConfig(VisionConfig(16, 8, 2, 2, 16), decoder, fusion), seed=1, dtype=dtype)


def batches() -> CaptionBatches:
    return CaptionBatches(SHAPES.part("train"), WORDS, batch_size=4, last="short", ahead=0)


class After:
    """Writes into the weights after an update."""

    def __init__(self, step: int, write: Callable[[dict[str, np.ndarray]], Any]):
        self.step, self.write = step, write

    def on_step_end(self, info: dict[str, Any]) -> None:
        if info["step"] == self.step:
            self.write(info["model"].parameters())


def trained(model: Captioner, **how: Any) -> Any:
    plain = {"max_steps": 5, "progress": False, "max_grad_norm": None, "lr_schedule": "constant", "learning_rate": 1e-3}
    return loopos.train(model, batches(), **(plain | how))


def written(values: dict[tuple[str, Any], float]) -> Callable[..., Any]:
    """A training in which weights have these values before the short batch."""

    def write(weights: dict[str, np.ndarray]) -> None:
        for (name, place), value in values.items():
            weights[name][place] = value

    return lambda **how: trained(captioner(), callbacks=[After(SHORT - 1, write)], **how)


def planted(*places: tuple[str, tuple[int, ...], float], phase: str, dtype: str = "float32", **train: Any):
    """A training in which the short batch has these numbers in its tensors."""

    def run(**how: Any) -> Any:
        model = captioner(dtype)
        with ExitStack() as stack:
            for tensor, index, value in places:
                stack.enter_context(testing.planted(model, tensor, index, value, phase=phase, step=SHORT))
            return trained(model, **(train | how))

    return run


def onto_a_weight_near_the_limit(**how: Any) -> Any:
    """SGD with a rate of 1 takes -3e38 from a weight of 3e38; the position is none of any caption's."""
    model, place = captioner(), (TABLE, (UNUSED, 3))
    write = After(SHORT - 1, lambda weights: weights[TABLE].__setitem__((UNUSED, 3), 3e38))
    with testing.planted(model, *place, -3e38, phase="backward", step=SHORT):
        return trained(model, **({"optimizer": "sgd", "learning_rate": 1.0, "callbacks": [write]} | how))


def when_a_checkpoint_is_due(**how: Any) -> Any:
    write = After(SHORT, lambda weights: weights[DOWN + ".weight"].__setitem__((2, 7), np.inf))
    return trained(captioner(), callbacks=[write], max_steps=SHORT, **how)


class Gate(NamedTuple):
    name: str
    fault: str
    step: int
    place: tuple[str, int | None, str, str, tuple[int, ...]]  # phase, layer, op, tensor, index
    cause: str
    run: Callable[..., Any]

    @property
    def row(self) -> str:
        phase, layer, op, tensor, index = self.place
        block = "" if layer is None else f", block {layer}"
        return f"| {self.name} | {self.fault} | {phase}{block}, {op}: {tensor}{list(index)} | {self.cause} |"


GATES = (
    Gate(
        "parameters", "a weight is NaN", SHORT, ("forward", 1, "parameter", UP + ".weight", (3, 2)),
        "weight not finite", written({(UP + ".weight", (3, 2)): np.nan}),
    ),
    Gate(
        "embeddings", "weights of a patch's channel are 1e38", SHORT,
        ("forward", None, "linear", "encoder.patch.y", (0, 0, 5)),
        "sum overflow", written({("encoder.patch.weight", 5): 1e38}),
    ),
    Gate(
        "activations", "a feed-forward gives 1e38 times 1e3", SHORT, ("forward", 1, "linear", DOWN + ".y", (0, 0, 12)),
        "product overflow",
        written({(UP + ".weight", 9): 0, (UP + ".bias", 9): 1e3, (DOWN + ".weight", (12, 9)): 1e38}),
    ),
    Gate(
        "logits", "the final norm gives 1e30, a word's weight is 1e30", SHORT,
        ("forward", None, "linear", "logits", (0, 0, WORDS.vocab_size)), "product overflow",
        written({("decoder.final_norm.bias", 3): 1e30, ("decoder.tok_embed.weight", (WORDS.vocab_size, 3)): 1e30}),
    ),
    Gate(
        "loss", "the loss of one word is written over with NaN", SHORT,
        ("forward", None, "cross_entropy", "loss", (ROW, 2)),
        "unknown", planted(("loss", (ROW, 2), np.nan), phase="forward"),
    ),
    Gate(
        "gradients", "one of attention's, of the picture's first block, is written over with inf", SHORT,
        ("backward", 0, "attention", "encoder.blocks.0.attn.dqkv", (ROW, 3, 5)),
        "unknown", planted(("encoder.blocks.0.attn.dqkv", (ROW, 3, 5), np.inf), phase="backward"),
    ),
    Gate(
        "norm", "two gradients are 1.7e308, in float64", SHORT, ("backward", None, "global_norm", "grad_norm", ()),
        "norm overflow",
        planted((TABLE, (UNUSED, 3), 1.7e308), (TABLE, (UNUSED, 4), 1.7e308), phase="backward", dtype="float64"),
    ),
    Gate(
        "update", "a gradient of 1e21, whose square Adam keeps", SHORT, ("update", None, "adamw", TABLE, (UNUSED, 3)),
        "product overflow", planted((TABLE, (UNUSED, 3), 1e21), phase="backward"),
    ),
    Gate(
        "parameters after", "a step of 3e38 from a weight of 3e38", SHORT, ("update", None, "sgd", TABLE, (UNUSED, 3)),
        "sum overflow", onto_a_weight_near_the_limit,
    ),
    Gate(
        "checkpoint", "a weight is inf when it is due", SHORT, ("forward", 1, "parameter", DOWN + ".weight", (2, 7)),
        "weight not finite", when_a_checkpoint_is_due,
    ),
)  # fmt: skip


def table() -> list[str]:
    head = ["| gate | fault | place | cause |", "|---|---|---|---|"]
    return head + [gate.row for gate in GATES]


if __name__ == "__main__":
    print("\n".join(table()))
