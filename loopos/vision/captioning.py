"""Captions of pictures: greedy, and by beam search, with the cache of keys and values."""

from __future__ import annotations

from typing import Any

import numpy as np

from loopos import checks
from loopos.generation.cache import refuse_nonfinite

BATCH = 32  # pictures at a time


def caption(
    model: Any, images: np.ndarray, *, beams: int = 1, max_tokens: int | None = None, length_penalty: float = 0.0
) -> list[str]:
    """What ``Captioner.caption`` gives."""
    where = "Captioner.caption"
    vocabulary, most = model.vocabulary, model.config.context_length
    if vocabulary is None:
        raise ValueError(f"{where}: the captioner has no vocabulary; loopos.train gives it one, or set its .vocabulary")
    beams = checks.integer(where, "beams", beams, low=1, high=1024)
    length = most if max_tokens is None else checks.integer(where, "max_tokens", max_tokens, low=1, high=most)
    penalty = checks.real(where, "length_penalty", length_penalty)
    if penalty < 0:
        raise ValueError(f"{where}: length_penalty must be at least 0, got {penalty}")
    said: list[str] = []
    for first in range(0, len(images), max(1, BATCH // beams)):
        search = _Search(model, images[first : first + max(1, BATCH // beams)], beams, length, penalty)
        said += [vocabulary.decode(ids) for ids in search.run()]
    return said


class _Search:
    """Beam search over the captions of some pictures: of each, ``beams`` unfinished captions are the rows of a batch.

    A caption's score is the sum of the log-probabilities of its tokens, its end among them, over their number to the
    power of ``penalty``. One beam is the greedy choice."""

    def __init__(self, model: Any, images: np.ndarray, beams: int, length: int, penalty: float):
        self._model, self._images = model, images
        self._beams, self._length, self._penalty = beams, length, penalty
        vocabulary = model.vocabulary
        self._begin, self._end, self._pad = vocabulary.bos, vocabulary.eos, vocabulary.pad
        outputs = model.config.vocab_size
        never = (vocabulary.pad, vocabulary.bos, vocabulary.unknown)
        self._sayable = np.arange(outputs) < vocabulary.vocab_size
        self._sayable[[each for each in never if each is not None]] = False

    def run(self) -> list[list[int]]:
        """The ids of the best caption of each picture, without begin and end."""
        pictures, beams = len(self._images), self._beams
        best: list[tuple[float, list[int]]] = [(-np.inf, [])] * pictures
        texts: list[list[int]] = [[] for _ in range(pictures * beams)]
        scores = np.full((pictures, beams), -np.inf)
        scores[:, 0] = 0.0  # all beams of a picture are the same at first: one counts
        searching = np.ones(pictures, bool)
        self._model.begin(self._images, self._length, copies=beams)
        ids = np.full((pictures * beams, 1), self._begin, np.int64)
        for made in range(1, self._length + 1):
            logits = self._model.next_logits(ids).astype(np.float64).reshape(pictures, beams, -1)
            self._refuse_nonfinite(logits, texts, searching[:, None] & (scores > -np.inf))
            candidates = scores[..., None] + np.where(self._sayable, _log_softmax(logits), -np.inf)
            rows, ids = np.arange(pictures * beams), np.full((pictures * beams, 1), self._pad, np.int64)
            before, scores = texts, np.full((pictures, beams), -np.inf)
            texts = list(before)
            for picture in np.flatnonzero(searching):
                flat = candidates[picture].ravel()
                kept = 0
                for place in _largest(flat, 2 * beams):
                    row, token = divmod(int(place), candidates.shape[-1])
                    score, text = float(flat[place]), before[picture * beams + row]
                    if score == -np.inf:
                        break
                    if token == self._end:
                        best[picture] = max(best[picture], (self._scored(score, made), text), key=lambda b: b[0])
                        if beams == 1:
                            break
                    elif kept < beams:
                        at = picture * beams + kept
                        texts[at], scores[picture, kept] = [*text, token], score
                        rows[at], ids[at, 0] = picture * beams + row, token
                        kept += 1
                        if beams == 1:
                            break
                # a longer caption is never likelier: what is left cannot come above this
                searching[picture] = kept > 0 and self._scored(scores[picture].max(), self._length) > best[picture][0]
            if not searching.any():
                break
            if beams > 1:
                self._model.reorder(rows)
        for picture in range(pictures):  # of one that no end came to in time, what there is
            if best[picture][0] == -np.inf:
                best[picture] = 0.0, texts[picture * beams]
        return [text for _, text in best]

    def _refuse_nonfinite(self, logits: np.ndarray, texts: list[list[int]], alive: np.ndarray) -> None:
        """NonFiniteError for the first caption that is ``alive`` (pictures, beams) and has no likeliest token."""
        bad = np.argwhere(alive & ~np.isfinite(logits).all(axis=-1))
        if len(bad):
            picture, beam = map(int, bad[0])
            ids = np.array([self._begin, *texts[picture * self._beams + beam]])
            pixels = self._model.pixels(self._images[picture : picture + 1])
            about = {"where": "Captioner.caption", "given": {"images": pixels}}
            refuse_nonfinite(self._model._core, [ids], logits[picture, beam][None], **about)

    def _scored(self, score: float, tokens: int) -> float:
        return score / tokens**self._penalty


def _largest(values: np.ndarray, count: int) -> np.ndarray:
    """The places of the ``count`` largest, the largest first, of equal ones the lower place. Few are sorted."""
    count = min(count, len(values))
    few = np.flatnonzero(values >= np.partition(values, -count)[-count])
    return few[np.argsort(-values[few], kind="stable")][:count]


def _log_softmax(logits: np.ndarray) -> np.ndarray:
    shifted = logits - logits.max(axis=-1, keepdims=True)
    return shifted - np.log(np.exp(shifted).sum(axis=-1, keepdims=True))
