"""Logits behind whole sequences: of each only those of the position that follows it."""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np

from loopos.model import Model

from .likelihood import BATCH_TOKENS


def last_logits(model: Model, rows: Sequence[np.ndarray], columns: np.ndarray) -> np.ndarray:
    """Logits of the ids ``columns`` (K,) behind each of ``rows``, arrays of 1..context_length ids: (len(rows), K) in
    the model's dtype. Rows of one length are computed together; the head is computed for one position of each."""
    result = np.empty((len(rows), len(columns)), model.dtype)
    by_length: dict[int, list[int]] = {}
    for i, row in enumerate(rows):
        by_length.setdefault(len(row), []).append(i)
    for length, members in sorted(by_length.items()):
        size = max(1, BATCH_TOKENS // length)
        for at in range(0, len(members), size):
            chosen = members[at : at + size]
            with model.lock:  # the cache is the model's
                model._core.start_generation(len(chosen), length)
                logits = model._core.next_logits(np.stack([rows[i] for i in chosen]).astype(np.int64))
            result[chosen] = logits[:, columns]
    return result
