"""Classifiers in Hugging Face folders: their architecture ends in ForSequenceClassification, their head is "score"."""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path
from typing import Any

from loopos.checks import shown
from loopos.errors import CheckpointError

SCORE = "score.weight"
ENDING = "ForSequenceClassification"
_SINGLE = "single_label_classification"
MOST = 1 << 16


def labels_in(path: Path, values: Mapping[str, Any]) -> tuple[str, ...]:
    """The names of the classes that a parsed config.json has, in their order; () of a language model.

    CheckpointError: names that are malformed. ValueError: a regression, or several classes at once."""
    architectures = values.get("architectures")
    if not isinstance(architectures, list) or not any(str(name).endswith(ENDING) for name in architectures):
        return ()
    if values.get("problem_type") not in (None, _SINGLE):
        raise ValueError(
            f"{path}: problem_type {shown(values['problem_type'])} is not supported; expected {_SINGLE} or none"
        )
    names = values.get("id2label")
    if names is None:
        number = values.get("num_labels", 2)
        if type(number) is not int or not 0 < number <= MOST:
            raise CheckpointError(path, f"num_labels must be a whole number from 1 to {MOST}, got {shown(number)}")
        names = {str(index): f"LABEL_{index}" for index in range(number)}
    expected = [str(index) for index in range(len(names))] if isinstance(names, dict) else []
    if (
        not expected
        or sorted(map(str, names)) != sorted(expected)
        or not all(isinstance(n, str) for n in names.values())
    ):
        raise CheckpointError(path, f"id2label must name the classes 0, 1, ..., got {shown(names)}")
    by_number = {str(number): name for number, name in names.items()}
    if len(expected) == 1:
        raise ValueError(f"{path}: a head of one class is a regression, which is not supported")
    return tuple(by_number[number] for number in expected)


def architecture_of(language_model: str) -> str:
    """The name of the classifier beside a language model's class."""
    for ending in ("LMHeadModel", "ForCausalLM"):
        language_model = language_model.removesuffix(ending)
    return language_model + ENDING


def classes_json(labels: tuple[str, ...], settings: Mapping[str, Any]) -> dict[str, Any]:
    """What config.json says of the classes, beside ``settings``. A text's last token is found by pad_token_id, which is
    that of the end of a text where there is none."""
    pad, end = settings.get("pad_token_id"), settings.get("eos_token_id")
    end = end[0] if isinstance(end, list) and end else end
    return {
        "architectures": [architecture_of(name) for name in settings["architectures"]],
        "id2label": {str(number): name for number, name in enumerate(labels)},
        "label2id": {name: number for number, name in enumerate(labels)},
        "pad_token_id": end if pad is None else pad,
        "problem_type": _SINGLE,
    }
