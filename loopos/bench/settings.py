"""What is measured: the settings, the same data for every engine, and the arithmetic that a step needs."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import asdict, dataclass, field, replace
from typing import Any, TypeVar

import numpy as np

from loopos import checks
from loopos.config import ModelConfig

BATCHES = 8  # different batches, used in turn
LEARNING_RATE, BETAS, EPS, WEIGHT_DECAY, CLIP = 3e-4, (0.9, 0.95), 1e-8, 0.1, 1.0
_LLAMA = {"norm": "rmsnorm", "activation": "swiglu", "position": "rope", "bias": False, "tie_embeddings": False}

S = TypeVar("S")


@dataclass(frozen=True)
class Setting:
    """A model and the batch of one step: ``batch`` sequences of ``config.context_length`` tokens."""

    name: str
    config: ModelConfig
    batch: int

    @property
    def length(self) -> int:
        return self.config.context_length

    @property
    def tokens(self) -> int:
        """Of one step."""
        return self.batch * self.length

    @property
    def amount(self) -> dict[str, int]:
        """What a step goes through."""
        return {"tokens": self.tokens}

    def flops(self) -> Flops:
        return step_flops(self)

    def data(self, seed: int = 0) -> list[tuple[np.ndarray, np.ndarray]]:
        """BATCHES batches (ids, targets), int64 (batch, length), drawn evenly from the vocabulary: the same numbers
        for every engine. Nothing can be learned from them but by heart, so the first loss is near ln V."""
        rng = np.random.default_rng(seed)
        size = (BATCHES, 2, self.batch, self.length)
        return [(ids, targets) for ids, targets in rng.integers(0, self.config.vocab_size, size)]

    def to_dict(self) -> dict[str, Any]:
        return {"name": self.name, "batch": self.batch, "config": self.config.to_dict()}

    @classmethod
    def from_dict(cls, values: dict[str, Any]) -> Setting:
        return cls(values["name"], ModelConfig.from_dict(values["config"]), values["batch"])

    def resized(self, name: str, *, batch: int | None = None, **fields: Any) -> Setting:
        """The same with other sizes; n_kv_head and d_ff follow n_head and d_model as ModelConfig's defaults do."""
        fresh = {"n_kv_head": None, "d_ff": None} if {"n_head", "d_model"} & fields.keys() else {}
        return Setting(name, replace(self.config, **(fresh | fields)), self.batch if batch is None else batch)


def _setting(name: str, sizes: tuple[int, ...], **options: Any) -> Setting:
    vocabulary, length, layers, heads, width, batch = sizes
    return Setting(name, ModelConfig(vocabulary, length, layers, heads, width, **options), batch)


#                       V, T, layers, heads, C, B
SETTINGS = {
    setting.name: setting
    for setting in (
        _setting("micro", (65, 32, 2, 2, 64, 8)),
        _setting("nano", (65, 64, 4, 4, 128, 12)),
        _setting("baby", (65, 256, 6, 6, 384, 8)),
        _setting("wide", (256, 128, 4, 16, 1024, 8)),
        _setting("gpt2", (50257, 64, 12, 12, 768, 4)),
        _setting("long", (65, 1024, 6, 6, 384, 2)),
        _setting("llama", (32000, 128, 8, 12, 768, 2), n_kv_head=4, **_LLAMA),
    )
}
TINY = {  # smoke tests: a moment of each family, whose times tell nothing of speed
    setting.name: setting
    for setting in (
        _setting("tiny", (17, 8, 1, 2, 16, 2)),
        _setting("tiny-llama", (17, 8, 2, 4, 16, 2), n_kv_head=2, **_LLAMA),
    )
}


def named(names: str) -> list[Setting]:
    """The settings of a list with commas between, each once and in that order. ValueError for a name that is none."""
    return named_of(names, SETTINGS, TINY)


def named_of(names: str, settings: Mapping[str, S], small: Mapping[str, S]) -> list[S]:
    """:func:`named` of other settings; small: those of smoke tests."""
    known = {**settings, **small}
    for name in (chosen := names.split(",")):
        if name not in known:
            raise ValueError(
                f"bench: setting must be names with commas between, out of {', '.join(settings)} "
                f"(or {', '.join(small)}, for smoke tests), got {checks.shown(name)}"
            )
    return [known[name] for name in dict.fromkeys(chosen)]


@dataclass(frozen=True)
class Flops:
    """Additions and multiplications of one training step, of matrix products alone (the rest is a few per cent at
    most, and memory bound)."""

    linear: int  # projections, feed-forward and the head
    attention: int  # scores and weighted sums, the causal half

    total: int = field(init=False)

    def __post_init__(self) -> None:
        object.__setattr__(self, "total", self.linear + self.attention)

    def to_dict(self) -> dict[str, int]:
        return asdict(self)


def step_flops(setting: Setting) -> Flops:
    """The arithmetic of one step, by the definition of the model and not by what an engine does.

    A product of (m, k) by (k, n) is 2 m k n. The backward of a product is two of that size, so a step is three times
    its forward. Attention counts the pairs that the causal mask leaves, T (T + 1) / 2 a head, and no recomputation:
    an engine that computes the masked half, or computes something twice, spends more than is counted here."""
    config, tokens = setting.config, setting.tokens
    width, keys = config.d_model, config.n_kv_head * config.head_width
    matrices = 3 if config.gated else 2
    block = width * (width + 2 * keys) + width * width + matrices * width * config.d_ff
    linear = 2 * tokens * (config.n_layer * block + width * config.vocab_size)
    pairs = setting.batch * setting.length * (setting.length + 1) // 2
    attention = config.n_layer * 2 * 2 * pairs * width  # q k and p v, each head_width a pair and head
    return Flops(3 * linear, 3 * attention)
