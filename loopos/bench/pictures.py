"""Training steps of captioners and of a classifier of pictures, from the same weights, by turns."""

from __future__ import annotations

import tempfile
from pathlib import Path
from typing import Any

import numpy as np

from .picture_settings import PictureSetting
from .real import difference
from .request import Request
from .steps import Entrant, compare

ENGINES = ("loopos", "torch", "torch-medium", "torch-autocast", "torch-compiled")
EXACT = ("loopos", "loopos-bf16x3", "torch", "torch-compiled")  # whose losses agree within FAR
FAR = 1e-4  # of a loss: far above what float32 and bf16x3 (2^-17 a factor) round; more is another model


def measure(asked: Request) -> dict[str, Any]:
    """As :func:`loopos.bench.steps.measure`. Every engine begins with the weights that LoopOS draws; the largest
    relative difference of the losses of the first two updates stands beside the times. RuntimeError where it is large:
    then the models are not the same."""
    entrants = [Entrant(peer, asked.threads) for peer in asked.peers]
    how: dict[str, Any] = {"rounds": asked.rounds, "steps": asked.steps, "report": asked.report}
    results = []
    for setting in asked.settings:
        with tempfile.TemporaryDirectory() as scratch:
            path = Path(scratch) / "weights.npz"
            save(setting, path)
            result = compare(setting, entrants, weights=str(path), **how)
        apart = difference([peer["losses"] for peer in result["peers"] if peer["peer"] in EXACT])
        if apart is not None and apart > FAR:
            raise RuntimeError(f"bench: {setting.name}: losses of the same step differ by {apart:.1e} of themselves")
        results.append(result | {"loss_difference": apart})
    return {"settings": results}


def save(setting: PictureSetting, path: Path) -> None:
    """The weights that every engine begins with, by LoopOS's names."""
    np.savez(path, **setting.model().parameters())
