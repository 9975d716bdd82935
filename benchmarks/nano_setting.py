"""The one job that nano_torch.py and nano_loopos.py both do: nanoGPT's published CPU setting on a text, as numbers.

Source of the setting: nanoGPT's README, "I only have a macbook" (characters of tinyshakespeare; 4 layers, 4 heads,
width 128, block 64, batch 12, 2,000 steps, no dropout) with the learning rate, beta2 and warm-up of its configuration
for that text.
"""

from __future__ import annotations

import argparse
from collections.abc import Sequence
from pathlib import Path

import numpy as np

N_LAYER, N_HEAD, WIDTH, BLOCK = 4, 4, 128, 64
BATCH, STEPS, WARMUP, SEED = 12, 2000, 100, 1337
LEARNING_RATE, MIN_LR = 1e-3, 1e-4
BETAS, EPS, WEIGHT_DECAY, CLIP = (0.9, 0.99), 1e-8, 0.1, 1.0
EVAL_BATCH = 64  # windows in one batch of the evaluation; changes memory and time, not the loss


def arguments(description: str, precisions: Sequence[str] = ()) -> argparse.Namespace:
    """precisions: of the products, of a program that has a choice."""
    parser = argparse.ArgumentParser(description=description)
    parser.add_argument("text", type=Path, help="a UTF-8 text file; its characters are the vocabulary")
    parser.add_argument("--steps", type=int, default=STEPS)
    parser.add_argument("--threads", type=int, default=2)
    parser.add_argument("--seed", type=int, default=SEED)
    parser.add_argument(
        "--output-dir", type=Path, help="nano_loopos.py: keep metrics and checkpoints here, and evaluate"
    )
    if precisions:
        parser.add_argument("--precision", choices=precisions, default=precisions[0], help="of the products")
    return parser.parse_args()


def characters(path: Path) -> tuple[np.ndarray, np.ndarray, int]:
    """Ids (int64) of the first nine tenths of the characters, of the held-out tenth; the size of the vocabulary."""
    text = path.read_text(encoding="utf-8")
    vocabulary = {character: number for number, character in enumerate(sorted(set(text)))}
    ids = np.array([vocabulary[character] for character in text], dtype=np.int64)
    cut = int(len(ids) * 0.9)
    return ids[:cut], ids[cut:], len(vocabulary)


def held_out_windows(ids: np.ndarray):
    """(ids, targets) batches of non-overlapping windows in order: each token but the first is a target exactly once."""
    full = (len(ids) - 1) // BLOCK
    x, y = ids[: full * BLOCK].reshape(full, BLOCK), ids[1 : full * BLOCK + 1].reshape(full, BLOCK)
    for start in range(0, full, EVAL_BATCH):
        yield x[start : start + EVAL_BATCH], y[start : start + EVAL_BATCH]
    if full * BLOCK < len(ids) - 1:
        yield ids[None, full * BLOCK : -1], ids[None, full * BLOCK + 1 :]
