"""A captioner: a decoder of text that sees the rows of an encoder of pictures."""

from __future__ import annotations

from typing import Any

import numpy as np

from loopos import _core
from loopos.calls import serialised
from loopos.model import for_core

from .config import CaptionerConfig, VisionConfig
from .network import Network, vision_for_core

_CLASSES = {"float32": _core.TransformerF32, "float64": _core.TransformerF64}


class Captioner(Network):
    """A captioner that a :class:`CaptionerConfig` describes. seed: of the initial weights.

    Wherever images are taken they are (B, height, width, channels), as of an :class:`ImageEncoder`; ids and targets are
    (B, T), as of a :class:`loopos.Model`, with 1 <= T <= context_length. Names of parameters begin with "encoder." and
    "decoder."."""

    _config_type = CaptionerConfig

    def _make_core(self, seed: int | None) -> Any:
        decoder = for_core(self._config.decoder) | {"weights": None}
        pictures = vision_for_core(self._config.encoder, self._config.decoder.d_model)
        return _CLASSES[self.dtype](decoder | {"pictures": pictures}, seed)

    @property
    def _vision(self) -> VisionConfig:
        return self._config.encoder

    @serialised
    def forward(self, images: np.ndarray, ids: np.ndarray) -> np.ndarray:
        """Logits (B, T, V) of the tokens, each of what follows it. Dropout never acts here."""
        return self._core.forward(ids, images=self.pixels(images))

    @serialised
    def hidden(self, images: np.ndarray, ids: np.ndarray) -> np.ndarray:
        """What the head is given: (B, T, C)."""
        return self._core.hidden(ids, images=self.pixels(images))

    @serialised
    def loss(self, images: np.ndarray, ids: np.ndarray, targets: np.ndarray) -> float:
        """Mean cross-entropy in nats over the targets that are not -100; position t is scored against targets[b, t]."""
        total, count = self._core.loss(ids, targets, images=self.pixels(images))
        return total / count if count else 0.0

    @serialised
    def losses(self, images: np.ndarray, ids: np.ndarray, targets: np.ndarray) -> np.ndarray:
        """The loss of each position, float64 (B, T); 0 where the target is -100."""
        return self._core.losses(ids, targets, images=self.pixels(images))

    @serialised
    def loss_and_grads(
        self, images: np.ndarray, ids: np.ndarray, targets: np.ndarray
    ) -> tuple[float, dict[str, np.ndarray]]:
        """The loss and its gradient for every trainable parameter, as fresh arrays. NonFiniteError when one of them or
        an activation is not finite; its ``birth`` says where it arose."""
        return self._loss_and_grads((ids, targets), {"images": self.pixels(images)})

    # Generation with a cache: begin, then next_logits again and again

    @serialised
    def begin(self, images: np.ndarray, length: int | None = None, *, copies: int = 1) -> int:
        """Begins texts of up to ``length`` tokens (None: context_length): ``copies`` neighbouring rows for each
        picture. Returns the number of this generation (``_core.generation()`` says which one it is)."""
        pixels = self.pixels(images)
        length = self._config.context_length if length is None else length
        return self._core.start_generation(len(pixels) * copies, length, None, pixels)

    @serialised
    def next_logits(self, ids: np.ndarray) -> np.ndarray:
        """Logits (B, V) after the last of further ids (B, T)."""
        return self._core.next_logits(ids)

    @serialised
    def rewind(self, used: int) -> None:
        """Forgets all but the first ``used`` tokens; the pictures stay."""
        self._core.rewind(used)

    @serialised
    def reorder(self, rows: np.ndarray) -> None:
        """Row b goes on from what row rows[b] has seen, as in beam search."""
        self._core.reorder(rows)
