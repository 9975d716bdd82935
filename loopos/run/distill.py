"""What is learned of a teacher, as people write it."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import asdict, dataclass
from typing import Any

from loopos import checks

LOSSES = ("kl", "mse", "normalized_mse", "cosine")
LAYERS = ("final", "all")


@dataclass(frozen=True)
class Distill:
    """How a student is compared with its teacher, at each position whose target counts.

    loss: "kl", of the logits, KL(teacher || student) times temperature squared; or of what the final norms give, "mse",
    "normalized_mse" or "cosine", see loopos.losses. weight: of that loss; cross_entropy: of the usual one beside it.
    layers: "all": the mean of that loss over what flows out of each block, of the last one what the final norm makes
    of it; the teacher's states of an update's micro-batches, n_layer arrays (B, T, C) each, are held meanwhile.
    Out of range: ValueError.
    """

    loss: str = "kl"
    temperature: float = 1.0
    weight: float = 1.0
    cross_entropy: float = 0.0
    layers: str = "final"

    def __post_init__(self) -> None:
        object.__setattr__(self, "loss", checks.choice("Distill", "loss", self.loss, LOSSES))
        object.__setattr__(self, "layers", checks.choice("Distill", "layers", self.layers, LAYERS))
        if self.layers == "all" and self.loss == "kl":
            raise ValueError(
                "Distill: layers='all' compares hidden states and loss='kl' compares logits; expected the loss 'mse', "
                "'normalized_mse' or 'cosine' with it"
            )
        for name, limit in (
            ("temperature", {"above": 0}),
            ("weight", {"above": 0}),
            ("cross_entropy", {"low": 0}),
        ):
            object.__setattr__(self, name, checks.real("Distill", name, getattr(self, name), **limit))

    def to_dict(self) -> dict[str, Any]:
        return asdict(self)

    @classmethod
    def of(cls, value: Any) -> Distill:
        """A Distill, the name of its loss, or what :meth:`to_dict` gave."""
        if isinstance(value, cls):
            return value
        if isinstance(value, Mapping):
            return cls(**value)
        return cls(checks.choice("train", "distill", value, LOSSES))
