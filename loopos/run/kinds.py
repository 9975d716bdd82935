"""The kinds of models that loopos.train trains."""

from __future__ import annotations

from typing import Any

from loopos import checks

from .language import Language
from .pictures import Captioning, Classifying

KINDS = (Language(), Captioning(), Classifying())


def kind_of(model: Any) -> Language:
    """Of a model or its configuration; TypeError for anything else."""
    for kind in KINDS:
        if isinstance(model, (kind.model, kind.config)):
            return kind
    raise TypeError(
        "train: model must be a Model or a ModelConfig, or of loopos.vision a Captioner, an ImageEncoder or the "
        f"configuration of one, got {checks.shown(model)}"
    )
