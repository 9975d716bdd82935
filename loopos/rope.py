"""Rotary positions: how fast the pairs of a head turn, and what was done to that for contexts longer than those of the
first training. The core is handed the numbers that come out here; it knows no type of scaling.
"""

from __future__ import annotations

import math
from collections.abc import Mapping
from dataclasses import asdict, dataclass, fields
from typing import Any, NamedTuple

from . import checks

# What each type reads of a RopeScaling: (must be given, may be given). factor of yarn may be absent, see RopeScaling.
_READ: dict[str, tuple[tuple[str, ...], tuple[str, ...]]] = {
    "linear": (("factor",), ()),
    "dynamic": (("factor",), ()),
    "llama3": (("factor", "low_freq_factor", "high_freq_factor"), ("original_max_position_embeddings",)),
    "yarn": (
        (),
        (
            "factor",
            "original_max_position_embeddings",
            "beta_fast",
            "beta_slow",
            "attention_factor",
            "mscale",
            "mscale_all_dim",
            "truncate",
        ),
    ),
}
TYPES = tuple(_READ)
BETA_FAST, BETA_SLOW = 32.0, 1.0  # of yarn, unless given


@dataclass(frozen=True, kw_only=True)
class RopeScaling:
    """How the rotary frequencies differ from rope_theta^(-2i / rotary_dim). The names are those of ``rope_parameters``
    in config.json of Hugging Face; None: not given.

    rope_type                         "linear": every frequency over factor (Chen et al., 2023)
                                      "dynamic": other frequencies beyond context_length alone, and nothing here is
                                      longer: the plain ones
                                      "llama3": the slow ones over factor, the fast ones plain, a ramp between
                                      "yarn": the same, another ramp, and a factor on cos and sin (Peng et al., 2023)
    factor                            at least 1. yarn, None: context_length / original_max_position_embeddings
    original_max_position_embeddings  llama3, yarn: the context of the first training. None: context_length
    low_freq_factor, high_freq_factor llama3: turns within that context below which a pair is slow, above which fast
    beta_slow, beta_fast              yarn: the same. None: 1 and 32
    attention_factor                  yarn: the factor on cos and sin. None: from factor, mscale and mscale_all_dim
    mscale, mscale_all_dim            yarn: where both are given, attention_factor is a quotient of two
    truncate                          yarn: the ends of the ramp are whole numbers of pairs. None: True

    A setting that the type does not read, or one that it needs and that is absent: ValueError; a wrong type: TypeError.
    """

    rope_type: str
    factor: float | None = None
    original_max_position_embeddings: int | None = None
    low_freq_factor: float | None = None
    high_freq_factor: float | None = None
    beta_fast: float | None = None
    beta_slow: float | None = None
    attention_factor: float | None = None
    mscale: float | None = None
    mscale_all_dim: float | None = None
    truncate: bool | None = None

    def __post_init__(self) -> None:
        where = "RopeScaling"
        self._set("rope_type", checks.choice(where, "rope_type", self.rope_type, TYPES))
        needed, read = _READ[self.rope_type]
        given = {f.name for f in fields(self)[1:] if getattr(self, f.name) is not None}
        missing, strange = [n for n in needed if n not in given], sorted(given - set(needed) - set(read))
        if missing or strange:
            wrong = [
                f"{verb} {', '.join(names)}"
                for verb, names in (("needs", missing), ("does not read", strange))
                if names
            ]
            raise ValueError(f"{where}: the type {self.rope_type!r} {' and '.join(wrong)}")
        for name in given:
            value = getattr(self, name)
            if name == "truncate":
                self._set(name, checks.boolean(where, name, value))
            elif name == "original_max_position_embeddings":
                self._set(name, checks.count(where, name, value))
            else:
                limit: dict[str, float] = {"low": 1} if name == "factor" else {"above": 0}
                if name in ("mscale", "mscale_all_dim"):
                    limit = {"low": 0}
                self._set(name, checks.real(where, name, value, **limit))
        for low, high, a, b in (
            ("low_freq_factor", "high_freq_factor", self.low_freq_factor or 0, self.high_freq_factor or math.inf),
            ("beta_slow", "beta_fast", self.beta_slow or BETA_SLOW, self.beta_fast or BETA_FAST),
        ):
            if a >= b:
                raise ValueError(f"{where}: {high} must be greater than {low}, got {b:g} and {a:g}")

    def _set(self, name: str, value: Any) -> None:
        object.__setattr__(self, name, value)  # the dataclass is frozen for everyone else

    def to_dict(self) -> dict[str, Any]:
        """What was given, safe for JSON; read back by :meth:`from_dict`."""
        return {name: value for name, value in asdict(self).items() if value is not None}

    @classmethod
    def from_dict(cls, values: Any) -> RopeScaling:
        """The scaling that :meth:`to_dict` wrote. Unknown names: ValueError listing them."""
        if not isinstance(values, Mapping):
            raise TypeError(f"RopeScaling.from_dict: values must be a dict, got {checks.shown(values)}")
        known = {f.name for f in fields(cls)}
        unknown = sorted(map(str, set(values) - known))
        if unknown or "rope_type" not in values:
            missing = [] if "rope_type" in values else ["rope_type"]
            raise ValueError(
                f"RopeScaling.from_dict: expected the fields of RopeScaling, got unknown {unknown}, missing {missing}"
            )
        return cls(**values)


class Rotation(NamedTuple):
    """frequencies: the angle by which each of the rotary_dim / 2 pairs turns from one position to the next; factor: on
    cos and sin."""

    frequencies: tuple[float, ...]
    factor: float


def frequencies(config: Any) -> dict[str, Rotation]:
    """The rotation of each kind of layer, "full" and "sliding", of a ModelConfig whose position is "rope".

    Sliding layers with a base of their own (local_rope_theta) are not scaled, as in Gemma 3; others are as full ones.
    """
    width = config.rotary_width
    full = _scaled(config.rope_scaling, config.rope_theta, width, config.context_length)
    local = Rotation(_plain(config.local_rope_theta, width), 1.0) if config.local_rope_theta else full
    return {"full": full, "sliding": local}


def _plain(theta: float, width: int) -> tuple[float, ...]:
    return tuple(math.pow(theta, -2.0 * i / width) for i in range(width // 2))


def _scaled(scaling: RopeScaling | None, theta: float, width: int, context: int) -> Rotation:
    plain = _plain(theta, width)
    if scaling is None or scaling.rope_type == "dynamic":
        return Rotation(plain, 1.0)
    if scaling.rope_type == "linear":
        return Rotation(tuple(f / scaling.factor for f in plain), 1.0)
    original = scaling.original_max_position_embeddings or context
    if scaling.rope_type == "llama3":
        return Rotation(tuple(_llama3(scaling, f, original) for f in plain), 1.0)
    return _yarn(scaling, plain, theta, width, context, original)


def _llama3(s: RopeScaling, frequency: float, original: int) -> float:
    turns = original * frequency / (2 * math.pi)  # within the first training's context
    if turns > s.high_freq_factor:
        return frequency
    if turns < s.low_freq_factor:
        return frequency / s.factor
    fast = (turns - s.low_freq_factor) / (s.high_freq_factor - s.low_freq_factor)
    return (1 - fast) * frequency / s.factor + fast * frequency


def _yarn(s: RopeScaling, plain: tuple[float, ...], theta: float, width: int, context: int, original: int) -> Rotation:
    factor = context / original if s.factor is None else s.factor

    def pair_of(turns: float) -> float:
        """The pair, as a real number, that turns so often within the first training's context."""
        return width * math.log(original / (turns * 2 * math.pi)) / (2 * math.log(theta))

    def temperature(mscale: float = 1.0) -> float:
        return 0.1 * mscale * math.log(factor) + 1.0 if factor > 1 else 1.0

    low, high = pair_of(s.beta_fast or BETA_FAST), pair_of(s.beta_slow or BETA_SLOW)
    if s.truncate is None or s.truncate:
        low, high = math.floor(low), math.ceil(high)
    low, high = max(low, 0), min(high, width - 1)
    span = high - low or 0.001
    slow = [min(max((i - low) / span, 0.0), 1.0) for i in range(len(plain))]
    mixed = tuple(f / factor * part + f * (1 - part) for f, part in zip(plain, slow, strict=True))
    if s.attention_factor is not None:
        return Rotation(mixed, s.attention_factor)
    if s.mscale and s.mscale_all_dim:
        return Rotation(mixed, temperature(s.mscale) / temperature(s.mscale_all_dim))
    return Rotation(mixed, temperature())
