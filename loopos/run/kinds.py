"""The kinds of models that loopos.train trains."""

from __future__ import annotations

from functools import cache
from typing import Any

from loopos import checks

from .language import Language
from .objectives import ANOTHER, NOT_AGAIN, CrossEntropy
from .settings import TrainSettings

_LANGUAGE = Language()


@cache
def kinds() -> tuple[Language, ...]:
    """All of them. What the others need takes a fifth of the time of ``import loopos``, so it is loaded when a model is
    none of language."""
    from .covariance import OfSnapshots
    from .pictures import Captioning, Classifying

    return _LANGUAGE, Captioning(), Classifying(), OfSnapshots()


def kind_of(model: Any) -> Language:
    """Of a model or its configuration; TypeError for anything else."""
    if isinstance(model, (_LANGUAGE.model, _LANGUAGE.config)):
        return _LANGUAGE
    for kind in kinds():
        if isinstance(model, (kind.model, kind.config)):
            return kind
    raise TypeError(
        "train: model must be a Model or a ModelConfig, or of loopos.vision a Captioner, an ImageEncoder, or of "
        f"loopos.covariance a CovarianceNetwork, or the configuration of one, got {checks.shown(model)}"
    )


def kind_named(config_type: str | None) -> Language:
    """By the name of its configuration's class; None: of a language model. ValueError for another name."""
    if config_type is None:
        return _LANGUAGE
    names = {kind.config.__name__: kind for kind in kinds()}
    return names[checks.choice("kind_named", "config_type", config_type, tuple(names))]


def objective_again(model: Any, settings: TrainSettings) -> CrossEntropy:
    """What a run with these settings minimised, for ``model``, which stands where the run's stood. ValueError where
    another Model was the teacher or the reference."""
    if settings.teacher == ANOTHER:
        raise ValueError(NOT_AGAIN)
    return kind_of(model).objective(model, settings.teacher, settings, None)
