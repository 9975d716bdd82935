"""A captioner: a decoder of text that sees the rows of an encoder of pictures."""

from __future__ import annotations

import os
from pathlib import Path
from typing import Any

import numpy as np

from loopos import _core, checks
from loopos.calls import serialised
from loopos.model import for_core

from .captioning import caption
from .config import CaptionerConfig, VisionConfig
from .data.vocabulary import FILE, Vocabulary, load_vocabulary, save_vocabulary, vocabulary_from_dict
from .network import Network, vision_for_core

_CLASSES = {"float32": _core.TransformerF32, "float64": _core.TransformerF64}


class Captioner(Network):
    """A captioner that a :class:`CaptionerConfig` describes. seed: of the initial weights.

    Wherever images are taken they are (B, height, width, channels), as of an :class:`ImageEncoder`; ids and targets are
    (B, T), as of a :class:`loopos.Model`, with 1 <= T <= context_length. Names of parameters begin with "encoder." and
    "decoder."."""

    _config_type = CaptionerConfig
    _vocabulary: Vocabulary | None = None

    def _make_core(self, dtype: str, seed: int | None) -> Any:
        decoder = for_core(self._config.decoder) | {"weights": None}
        pictures = vision_for_core(self._config.encoder, self._config.projected)
        return _CLASSES[dtype](decoder | {"pictures": pictures, "fusion": self._config.fusion}, seed)

    @property
    def vision(self) -> VisionConfig:
        """The configuration of what looks at the pictures."""
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

    # Captions

    @property
    def vocabulary(self) -> Vocabulary | None:
        """What turns captions into ids and back: loopos.train sets it, and it is saved with the model. More ids than
        vocab_size: ValueError."""
        return self._vocabulary

    @vocabulary.setter
    def vocabulary(self, vocabulary: Vocabulary | None) -> None:
        if vocabulary is not None and not isinstance(vocabulary, Vocabulary):
            got = checks.shown(vocabulary)
            raise TypeError(f"Captioner.vocabulary: expected a WordVocabulary or a TokenVocabulary, got {got}")
        if vocabulary is not None and vocabulary.vocab_size > self._config.vocab_size:
            raise ValueError(
                f"Captioner.vocabulary: it has {vocabulary.vocab_size} ids, and the model's vocab_size is "
                f"{self._config.vocab_size}"
            )
        self._vocabulary = vocabulary

    @serialised
    def caption(
        self, images: np.ndarray, beams: int = 1, max_tokens: int | None = None, *, length_penalty: float = 0.0
    ) -> list[str]:
        """A caption of each picture, by :attr:`vocabulary`.

        beams: of beam search; 1 takes the likeliest token each time. max_tokens: of a caption, its end among them;
        None: context_length. length_penalty: of several finished captions the one of the highest sum of
        log-probabilities is taken, over the number of tokens to this power. Padding, begin and unknown words are never
        said. Without a vocabulary: ValueError. NonFiniteError where a logit is not finite; its ``birth`` says where the
        number arose."""
        return caption(self, images, beams=beams, max_tokens=max_tokens, length_penalty=length_penalty)

    # Files

    @serialised
    def save(self, folder: str | os.PathLike[str]) -> None:
        """As of an :class:`ImageEncoder`, and caption_vocabulary.json where there is a vocabulary."""
        super().save(folder)
        path = Path(folder) / FILE
        if self._vocabulary is None:
            path.unlink(missing_ok=True)
        else:
            save_vocabulary(path, self._vocabulary)

    @classmethod
    def load(cls, folder: str | os.PathLike[str], tokenizer: Any = None, *, precision: str | None = None) -> Captioner:
        """The captioner that :meth:`save` wrote, or that of a run of loopos.train (its newest sound checkpoint), or of
        one checkpoint, with its vocabulary. tokenizer: that of a vocabulary that was made of a tokenizer.json.
        precision: as of Captioner. CheckpointError for a file that is malformed."""
        if (found := cls._of_run(folder, precision)) is not None:
            model, checkpoint = found
            model.vocabulary = vocabulary_from_dict(
                checkpoint.state.get("tokenizer"), tokenizer, where=str(checkpoint.path)
            )
            return model
        model = super().load(folder, precision=precision)
        path = Path(folder) / FILE
        if path.is_file():
            model.vocabulary = load_vocabulary(path, tokenizer)
        return model

    def __getstate__(self) -> dict[str, Any]:
        return super().__getstate__() | {"vocabulary": self._vocabulary}

    def __setstate__(self, state: dict[str, Any]) -> None:
        super().__setstate__(state)
        self._vocabulary = state.get("vocabulary")

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
