"""Which parameters of a model are trained: those of a Model that are not frozen, all of any other object."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

import numpy as np


def trainable_of(model: Any) -> Mapping[str, np.ndarray]:
    """Live views by name: ``model.parameters(trainable=True)`` of a Model, ``model.parameters()`` of any other."""
    return model.parameters(trainable=True) if hasattr(model, "freeze") else model.parameters()


def freeze_alike(copy: Any, model: Any) -> None:
    """Freezes in ``copy`` what is frozen in ``model``, and nothing else."""
    if hasattr(model, "freeze"):
        copy._freeze_alone(model.parameters(trainable=False))
