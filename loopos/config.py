"""The shape of a model: one frozen dataclass, every field checked when it is made."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import KW_ONLY, MISSING, asdict, dataclass, fields
from typing import Any, Literal

from . import checks
from .choices import ACTIVATIONS, NORMS, POSITIONS, ActivationName

MAX_SIZE = 2**63 - 1  # what an index of the C++ core can hold


@dataclass(frozen=True)
class ModelConfig:
    """A decoder-only transformer, pre-norm, of the GPT-2 or the Llama family or anything between.

    vocab_size      V, ids are 0..V-1
    context_length  most tokens of one sequence
    n_layer         blocks
    n_head          attention heads; must divide d_model
    d_model         C, width of the residual stream
    n_kv_head       key/value heads; must divide n_head. None: n_head
    d_ff            hidden width of the feed-forward. None: 4 d_model, whatever the activation
    norm            "layernorm" or "rmsnorm"
    activation      of the feed-forward, down(f(up x)), or gated, down(f(gate x) * up x), with three matrices: a name in
                    loopos.choices.ACTIVATIONS ("gelu_tanh", "swiglu", ...)
    position        "learned" table, or "rope", which rotates halves and needs an even head width
    bias            False removes every bias, layer norm's too (rms norm and the output head never have one)
    tie_embeddings  the output head is the token embedding
    dropout         probability in [0, 1), applied by train only
    norm_eps        added to the variance, inside the root
    rope_theta      base of the rotary frequencies
    head_dim        width of one head. 0: d_model / n_head, which must then be whole
    sliding_window  a token sees itself and the sliding_window - 1 before it. 0: all before it

    A wrong type raises TypeError, a value out of range ValueError. After construction n_kv_head and d_ff hold the
    resolved integers, so ``dataclasses.replace(config, d_model=...)`` keeps the old d_ff unless it is given too.
    """

    vocab_size: int
    context_length: int
    n_layer: int
    n_head: int
    d_model: int
    _: KW_ONLY
    n_kv_head: int | None = None
    d_ff: int | None = None
    norm: Literal["layernorm", "rmsnorm"] = "layernorm"
    activation: ActivationName = "gelu_tanh"
    position: Literal["learned", "rope"] = "learned"
    bias: bool = True
    tie_embeddings: bool = True
    dropout: float = 0.0
    norm_eps: float = 1e-5
    rope_theta: float = 10000.0
    head_dim: int = 0
    sliding_window: int = 0

    def __post_init__(self) -> None:
        for name in ("vocab_size", "context_length", "n_layer", "n_head", "d_model"):
            self._set(name, _size(name, getattr(self, name)))
        self._set("n_kv_head", self.n_head if self.n_kv_head is None else _size("n_kv_head", self.n_kv_head))
        self._set("d_ff", _size("d_ff", 4 * self.d_model if self.d_ff is None else self.d_ff))
        for name, choices in (("norm", NORMS), ("activation", tuple(ACTIVATIONS)), ("position", POSITIONS)):
            self._set(name, checks.choice("ModelConfig", name, getattr(self, name), choices))
        for name in ("bias", "tie_embeddings"):
            self._set(name, checks.boolean("ModelConfig", name, getattr(self, name)))
        self._set("dropout", checks.real("ModelConfig", "dropout", self.dropout, low=0, below=1))
        self._set("norm_eps", checks.real("ModelConfig", "norm_eps", self.norm_eps, above=0))
        self._set("rope_theta", checks.real("ModelConfig", "rope_theta", self.rope_theta, above=0))
        for name in ("head_dim", "sliding_window"):
            self._set(name, _size(name, getattr(self, name), low=0))
        self._check_heads()

    def _check_heads(self) -> None:
        if not self.head_dim and self.d_model % self.n_head:
            raise ValueError(
                f"ModelConfig: n_head must divide d_model, got n_head {self.n_head} and d_model {self.d_model}"
            )
        if self.n_head % self.n_kv_head:
            raise ValueError(
                f"ModelConfig: n_kv_head must divide n_head, got n_kv_head {self.n_kv_head} and n_head {self.n_head}"
            )
        if self.position == "rope" and self.head_width % 2:
            raise ValueError(
                "ModelConfig: position 'rope' rotates pairs and needs an even "
                + (
                    f"head_dim, got {self.head_dim}"
                    if self.head_dim
                    else f"head width d_model / n_head, got {self.d_model} / {self.n_head} = {self.head_width}"
                )
            )

    def _set(self, name: str, value: Any) -> None:
        object.__setattr__(self, name, value)  # the dataclass is frozen for everyone else

    @property
    def head_width(self) -> int:
        """D: head_dim, or d_model / n_head."""
        return self.head_dim or self.d_model // self.n_head

    @property
    def gated(self) -> bool:
        """Whether the feed-forward has a gate beside its up projection."""
        return ACTIVATIONS[self.activation].gated

    def num_parameters(self) -> int:
        """How many numbers the model learns, a tied matrix counted once. Exact, whatever the size."""
        c, bias = self.d_model, int(self.bias)
        heads, kv = self.n_head * self.head_width, self.n_kv_head * self.head_width
        norm = c * (1 + (bias if self.norm == "layernorm" else 0))
        attention = _linear(c, heads, bias) + 2 * _linear(c, kv, bias) + _linear(heads, c, bias)
        inputs = 2 if self.gated else 1  # gate and up, or up alone
        feed_forward = inputs * _linear(c, self.d_ff, bias) + _linear(self.d_ff, c, bias)
        tokens = self.vocab_size * c * (1 if self.tie_embeddings else 2)
        positions = self.context_length * c if self.position == "learned" else 0
        return tokens + positions + self.n_layer * (2 * norm + attention + feed_forward) + norm

    def to_dict(self) -> dict[str, Any]:
        """Every field as a plain int, float, bool or str: safe for JSON, and read back by :meth:`from_dict`."""
        return asdict(self)

    @classmethod
    def from_dict(cls, values: Mapping[str, Any]) -> ModelConfig:
        """The config that :meth:`to_dict` wrote. Unknown or missing names: ValueError listing them all."""
        if not isinstance(values, Mapping):
            raise TypeError(f"ModelConfig.from_dict: values must be a dict, got {checks.shown(values)}")
        known = {f.name for f in fields(cls)}
        required = {f.name for f in fields(cls) if f.default is MISSING}
        unknown, missing = sorted(map(str, set(values) - known)), sorted(required - set(values))
        if unknown or missing:
            raise ValueError(
                f"ModelConfig.from_dict: expected the fields of ModelConfig, got unknown {unknown}, missing {missing}"
            )
        return cls(**values)


def _size(name: str, value: Any, low: int = 1) -> int:
    value = checks.integer("ModelConfig", name, value, low=low)
    if value > MAX_SIZE:
        raise ValueError(
            f"ModelConfig: {name} must be at most {MAX_SIZE}, got {checks.shown(value)}: "
            f"one float32 for each would already take more than {4 * MAX_SIZE} bytes"
        )
    return value


def _linear(inputs: int, outputs: int, bias: int) -> int:
    return inputs * outputs + bias * outputs
