"""LoRA (Hu et al. 2021): to y = x Wᵀ a product of two narrow matrices is added, scale · (dropout(x) Aᵀ) Bᵀ."""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from dataclasses import KW_ONLY, asdict, dataclass, field
from typing import Any

from loopos import checks

from . import patterns
from .targets import GROUPS


@dataclass(frozen=True)
class LoRA:
    """rank: columns of B, rows of A. alpha: scale is alpha / rank, with rslora alpha / sqrt(rank) (Kalajdzievski 2023).
    dropout: of the input of A, while training. dora: each row of W + scale B A is brought to a learned length (Liu et
    al. 2024).

    targets: "all-linear", "attention", or Hugging Face's names of modules of the model's family, such as ("q_proj",
    "v_proj") or ("c_attn",): the end of a module's dotted name, or all of it.

    rank_pattern, alpha_pattern: other ranks and alphas for some of these modules, by such names; the first name that
    fits a module counts, and one that begins with ^ is all of the module's, as in peft.

    A wrong type: TypeError; out of range: ValueError. That a target is no module of a model is told when the adapter is
    added to it."""

    rank: int = 8
    alpha: float = 16
    dropout: float = 0.0
    targets: str | Sequence[str] = "all-linear"
    _: KW_ONLY
    rslora: bool = False
    dora: bool = False
    rank_pattern: Mapping[str, int] = field(default_factory=dict, hash=False)
    alpha_pattern: Mapping[str, float] = field(default_factory=dict, hash=False)

    def __post_init__(self) -> None:
        put = object.__setattr__  # the dataclass is frozen for everyone else
        put(self, "rank", _rank("LoRA", "rank", self.rank))
        put(self, "alpha", _alpha("LoRA", "alpha", self.alpha))
        put(self, "dropout", checks.real("LoRA", "dropout", self.dropout, low=0, below=1))
        put(self, "targets", _checked(self.targets))
        for name in ("rslora", "dora"):
            put(self, name, checks.boolean("LoRA", name, getattr(self, name)))
        for name, number in (("rank_pattern", _rank), ("alpha_pattern", _alpha)):
            put(self, name, patterns.checked("LoRA", name, getattr(self, name), number))

    @property
    def scale(self) -> float:
        """Of the modules that no pattern names."""
        return self._scale(self.rank, self.alpha)

    def of_module(self, module: str) -> tuple[int, float]:
        """Rank and scale of the module of this dotted name."""
        rank = patterns.lookup(self.rank_pattern, module, self.rank)
        return rank, self._scale(rank, patterns.lookup(self.alpha_pattern, module, self.alpha))

    def _scale(self, rank: int, alpha: float) -> float:
        return alpha / (math.sqrt(rank) if self.rslora else rank)

    def to_dict(self) -> dict[str, Any]:
        """Safe for JSON."""
        targets = self.targets if isinstance(self.targets, str) else list(self.targets)
        return asdict(self) | {"targets": targets}

    @classmethod
    def from_dict(cls, values: Mapping[str, Any]) -> LoRA:
        """What :meth:`to_dict` gave."""
        return cls(**values)


def _rank(where: str, name: str, value: Any) -> int:
    return checks.count(where, name, value, high=1 << 20)


def _alpha(where: str, name: str, value: Any) -> float:
    return checks.real(where, name, value, above=0)


def _checked(targets: Any) -> str | tuple[str, ...]:
    expected = f"{' or '.join(map(repr, GROUPS))}, or names of modules such as ('q_proj', 'v_proj')"
    if isinstance(targets, str) and targets in GROUPS:
        return targets
    names = (targets,) if isinstance(targets, str) else targets
    if not isinstance(names, Sequence | set | frozenset) or not all(isinstance(name, str) for name in names):
        raise TypeError(f"LoRA: targets must be {expected}, got {checks.shown(targets)}")
    if not names or not all(name.strip(".") == name != "" for name in names):
        raise ValueError(f"LoRA: targets must be {expected}, got {checks.shown(targets)}")
    return tuple(dict.fromkeys(sorted(names) if isinstance(names, set | frozenset) else names))
