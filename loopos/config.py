"""The shape of a model: one frozen dataclass, every field checked when it is made."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import KW_ONLY, MISSING, dataclass, fields
from typing import Any, Literal

from . import checks
from .choices import ACTIVATIONS, ATTENTION_BIASES, NORM_PLACEMENTS, NORMS, POSITIONS, QK_NORMS, ActivationName
from .rope import RopeScaling

MAX_SIZE = 2**63 - 1  # what an index of the C++ core can hold
LAYER_TYPES = ("full", "sliding")


@dataclass(frozen=True)
class ModelConfig:
    """A decoder-only transformer: GPT-2, Llama, Qwen, Gemma, GPT-NeoX, OLMo 2, or anything between.

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
    sliding_window  a token sees itself and the sliding_window - 1 before it, in sliding layers. 0: all before it

    What the families differ in beyond that; the defaults are GPT-2's and Llama's:

    attention_bias    "all", "qkv" (none on the output projection; Qwen2) or "none". None: "all" if bias, else "none"
    mlp_bias          of the feed-forward. None: bias
    qk_norm           rms norm of queries and keys before rope: "head", of each head's D numbers (Qwen3, Gemma 3);
                      "full", of all heads together (OLMo 2); "none"
    norm_placement    "pre": branch(norm(x)). "post": norm(branch(x)), added to x (OLMo 2). "both" (Gemma 3)
    norm_unit_offset  norms multiply by 1 + weight, which starts at 0 (Gemma)
    parallel_residual x + attention(norm(x)) + feed-forward(norm(x)), two norms of one x (GPT-NeoX). "pre" alone
    embedding_scale   token embeddings are multiplied by it (Gemma: the root of d_model)
    attention_scale   of the scores. 0: 1 / sqrt(D)
    rotary_dim        elements of a head that rope turns, from its first on; even. 0: all (GPT-NeoX, Phi: a part)
    rope_scaling      a loopos.rope.RopeScaling: other frequencies than the plain ones. None: these
    layer_types       of each layer "full" or "sliding" (Gemma 3). (): all sliding if there is a sliding_window, else
                      all full
    local_rope_theta  base of the sliding layers, which are then not scaled (Gemma 3). 0: as the others
    rope_layers       of each layer whether it has rope (SmolLM3). (): all
    labels            the names of a classifier's classes: the head gives a score for each of them in place of a logit
                      for each entry of the vocabulary, and is tied to nothing ("score.weight"). (): a language model

    A wrong type raises TypeError, a value out of range ValueError. After construction n_kv_head, d_ff, attention_bias
    and mlp_bias hold what they were resolved to, so ``dataclasses.replace(config, d_model=...)`` keeps the old d_ff
    unless it is given too.
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
    attention_bias: Literal["all", "qkv", "none"] | None = None
    mlp_bias: bool | None = None
    qk_norm: Literal["none", "head", "full"] = "none"
    norm_placement: Literal["pre", "post", "both"] = "pre"
    norm_unit_offset: bool = False
    parallel_residual: bool = False
    embedding_scale: float = 1.0
    attention_scale: float = 0.0
    rotary_dim: int = 0
    rope_scaling: RopeScaling | None = None
    layer_types: tuple[str, ...] = ()
    local_rope_theta: float = 0.0
    rope_layers: tuple[bool, ...] = ()
    labels: tuple[str, ...] = ()

    def __post_init__(self) -> None:
        for name in ("vocab_size", "context_length", "n_layer", "n_head", "d_model"):
            self._set(name, _size(name, getattr(self, name)))
        self._set("n_kv_head", self.n_head if self.n_kv_head is None else _size("n_kv_head", self.n_kv_head))
        self._set("d_ff", _size("d_ff", 4 * self.d_model if self.d_ff is None else self.d_ff))
        if self.attention_bias is None:
            self._set("attention_bias", "all" if self.bias else "none")
        for name, choices in (
            ("norm", NORMS),
            ("activation", tuple(ACTIVATIONS)),
            ("position", POSITIONS),
            ("attention_bias", ATTENTION_BIASES),
            ("qk_norm", QK_NORMS),
            ("norm_placement", NORM_PLACEMENTS),
        ):
            self._set(name, checks.choice("ModelConfig", name, getattr(self, name), choices))
        for name in ("bias", "tie_embeddings", "norm_unit_offset", "parallel_residual"):
            self._set(name, checks.boolean("ModelConfig", name, getattr(self, name)))
        mlp_bias = self.bias if self.mlp_bias is None else self.mlp_bias
        self._set("mlp_bias", checks.boolean("ModelConfig", "mlp_bias", mlp_bias))
        for name, limit in (
            ("dropout", {"low": 0, "below": 1}),
            ("norm_eps", {"above": 0}),
            ("rope_theta", {"above": 0}),
            ("embedding_scale", {"above": 0}),
            ("attention_scale", {"low": 0}),
            ("local_rope_theta", {"low": 0}),
        ):
            self._set(name, checks.real("ModelConfig", name, getattr(self, name), **limit))
        for name in ("head_dim", "sliding_window", "rotary_dim"):
            self._set(name, _size(name, getattr(self, name), low=0))
        self._set("layer_types", self._each_layer("layer_types", lambda n, v: checks.choice(*n, v, LAYER_TYPES)))
        self._set("rope_layers", self._each_layer("rope_layers", lambda n, v: checks.boolean(*n, v)))
        self._set("labels", _names("labels", self.labels))
        if not isinstance(self.rope_scaling, RopeScaling | None):
            got = checks.shown(self.rope_scaling)
            raise TypeError(f"ModelConfig: rope_scaling must be a loopos.rope.RopeScaling or None, got {got}")
        self._check_heads()
        self._check_layers()
        self._check_rope()

    def _each_layer(self, name: str, check: Callable[[tuple[str, str], Any], Any]) -> tuple[Any, ...]:
        values = getattr(self, name)
        if not isinstance(values, tuple | list):
            raise TypeError(f"ModelConfig: {name} must be a tuple, one entry a layer, got {checks.shown(values)}")
        if len(values) not in (0, self.n_layer):
            raise ValueError(
                f"ModelConfig: {name} must have one entry for each of the n_layer = {self.n_layer} layers, or none, "
                f"got {len(values)}"
            )
        return tuple(check(("ModelConfig", f"{name}[{i}]"), value) for i, value in enumerate(values))

    def _check_heads(self) -> None:
        if not self.head_dim and self.d_model % self.n_head:
            raise ValueError(
                f"ModelConfig: n_head must divide d_model, got n_head {self.n_head} and d_model {self.d_model}"
            )
        if self.n_head % self.n_kv_head:
            raise ValueError(
                f"ModelConfig: n_kv_head must divide n_head, got n_kv_head {self.n_kv_head} and n_head {self.n_head}"
            )
        if self.position == "rope" and not self.rotary_dim and self.head_width % 2:
            raise ValueError(
                "ModelConfig: position 'rope' rotates pairs and needs an even "
                + (
                    f"head_dim, got {self.head_dim}"
                    if self.head_dim
                    else f"head width d_model / n_head, got {self.d_model} / {self.n_head} = {self.head_width}"
                )
            )
        if self.rotary_dim % 2 or self.rotary_dim > self.head_width:
            raise ValueError(
                f"ModelConfig: rotary_dim must be even and at most the head width {self.head_width}, got "
                f"{self.rotary_dim}"
            )

    def _check_layers(self) -> None:
        if "sliding" in self.layer_types and not self.sliding_window:
            raise ValueError("ModelConfig: layer_types has sliding layers, which need a sliding_window, got 0")
        if self.parallel_residual and self.norm_placement != "pre":
            raise ValueError(
                "ModelConfig: parallel_residual is computed with norm_placement 'pre' alone, got "
                f"{self.norm_placement!r}"
            )

    def _check_rope(self) -> None:
        if self.position != "rope":
            plain = {"rotary_dim": 0, "rope_scaling": None, "local_rope_theta": 0.0, "rope_layers": ()}
            given = [name for name, value in plain.items() if getattr(self, name) != value]
            if given:
                raise ValueError(f"ModelConfig: {', '.join(given)} can only be given with position 'rope'")
        sliding = "sliding" in self.layer_types or (self.sliding_window and not self.layer_types)
        if self.local_rope_theta and not sliding:
            raise ValueError("ModelConfig: local_rope_theta is of sliding layers, and there are none")
        if self.rope_scaling is not None and self.rope_scaling.rope_type == "yarn" and self.rope_theta <= 1:
            raise ValueError(f"ModelConfig: yarn needs a rope_theta greater than 1, got {self.rope_theta}")

    def _set(self, name: str, value: Any) -> None:
        object.__setattr__(self, name, value)  # the dataclass is frozen for everyone else

    @property
    def head_width(self) -> int:
        """D: head_dim, or d_model / n_head."""
        return self.head_dim or self.d_model // self.n_head

    @property
    def num_labels(self) -> int:
        """Classes of a classifier; 0 of a language model."""
        return len(self.labels)

    @property
    def outputs(self) -> int:
        """Numbers that the head gives for a position: num_labels, or where that is 0 vocab_size."""
        return self.num_labels or self.vocab_size

    @property
    def gated(self) -> bool:
        """Whether the feed-forward has a gate beside its up projection."""
        return ACTIVATIONS[self.activation].gated

    @property
    def rotary_width(self) -> int:
        """Elements of a head that rope turns: rotary_dim, or all D."""
        return self.rotary_dim or self.head_width

    def layer_type(self, layer: int) -> str:
        """ "full" or "sliding"."""
        return self.layer_types[layer] if self.layer_types else "sliding" if self.sliding_window else "full"

    def has_rope(self, layer: int) -> bool:
        return self.position == "rope" and (not self.rope_layers or self.rope_layers[layer])

    def num_parameters(self) -> int:
        """How many numbers the model learns, a tied matrix counted once. Exact, whatever the size."""
        c, mlp_bias = self.d_model, int(self.mlp_bias)
        heads, kv = self.n_head * self.head_width, self.n_kv_head * self.head_width
        norm = c * (2 if self.norm == "layernorm" and self.bias else 1)
        qkv_bias, out_bias = int(self.attention_bias != "none"), int(self.attention_bias == "all")
        attention = _linear(c, heads + 2 * kv, qkv_bias) + _linear(heads, c, out_bias)
        attention += {"none": 0, "head": 2 * self.head_width, "full": heads + kv}[self.qk_norm]
        inputs = 2 if self.gated else 1  # gate and up, or up alone
        feed_forward = inputs * _linear(c, self.d_ff, mlp_bias) + _linear(self.d_ff, c, mlp_bias)
        norms = (4 if self.norm_placement == "both" else 2) * norm
        tied = self.tie_embeddings and not self.labels
        tokens = self.vocab_size * c + (0 if tied else self.outputs * c)
        positions = self.context_length * c if self.position == "learned" else 0
        return tokens + positions + self.n_layer * (norms + attention + feed_forward) + norm

    def num_parameters_of_cross_attention(self) -> int:
        """What blocks learn besides where they attend to a memory, whose keys and values are made elsewhere."""
        c, heads = self.d_model, self.n_head * self.head_width
        norm = c * (2 if self.norm == "layernorm" and self.bias else 1)
        qkv_bias, out_bias = int(self.attention_bias != "none"), int(self.attention_bias == "all")
        norms = (2 if self.norm_placement == "both" else 1) * norm
        return self.n_layer * (norms + _linear(c, heads, qkv_bias) + _linear(heads, c, out_bias))

    def to_dict(self) -> dict[str, Any]:
        """Every field as what JSON has: a number, bool, string or null; what is said of each layer is a list, and
        rope_scaling an object. Read back by :meth:`from_dict`."""
        values = {f.name: getattr(self, f.name) for f in fields(self)}
        plain = {name: list(value) for name, value in values.items() if isinstance(value, tuple)}
        if self.rope_scaling is not None:
            plain["rope_scaling"] = self.rope_scaling.to_dict()
        return values | plain

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
        scaling = values.get("rope_scaling")
        if scaling is not None and not isinstance(scaling, RopeScaling):
            values = {**values, "rope_scaling": RopeScaling.from_dict(scaling)}
        return cls(**values)


def _size(name: str, value: Any, low: int = 1) -> int:
    value = checks.integer("ModelConfig", name, value, low=low)
    if value > MAX_SIZE:
        raise ValueError(
            f"ModelConfig: {name} must be at most {MAX_SIZE}, got {checks.shown(value)}: "
            f"one float32 for each would already take more than {4 * MAX_SIZE} bytes"
        )
    return value


def _names(name: str, values: Any) -> tuple[str, ...]:
    if not isinstance(values, tuple | list) or not all(isinstance(value, str) for value in values):
        raise TypeError(f"ModelConfig: {name} must be a tuple of strings, got {checks.shown(values)}")
    if len(values) == 1 or len(set(values)) < len(values):
        raise ValueError(f"ModelConfig: {name} must be none, or two and more, each another, got {checks.shown(values)}")
    return tuple(values)


def _linear(inputs: int, outputs: int, bias: int) -> int:
    return inputs * outputs + bias * outputs
