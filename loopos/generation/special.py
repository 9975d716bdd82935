"""Which tokens begin and end a text, as a model's folder and its tokenizer say."""

from __future__ import annotations

import json
from typing import Any

_GENERATION = "generation_config.json"


def ends(model: Any, tokenizer: Any) -> tuple[int, ...]:
    """Ids at which an answer is over: those of generation_config.json, else of config.json, and the tokenizer's own.
    One that the vocabulary does not have, as GPT-2's default in a smaller model, ends nothing and is left out."""
    told = _settings(model).get("eos_token_id")
    ids = [each for each in (told if isinstance(told, list) else [told]) if _is_id(each)]
    own = getattr(tokenizer, "eos", None)
    ids += [own] if _is_id(own) else []
    return tuple(dict.fromkeys(id for id in ids if id < model.config.vocab_size))


def prefix(model: Any, tokenizer: Any) -> int | None:
    """What stands for an empty context: the beginning-of-text token, else the end-of-text token, else None."""
    begins = (getattr(tokenizer, "bos", None), _settings(model).get("bos_token_id"), *ends(model, tokenizer))
    return next((each for each in begins if _is_id(each)), None)


def _is_id(value: Any) -> bool:
    return isinstance(value, int) and not isinstance(value, bool) and value >= 0


def _settings(model: Any) -> dict[str, Any]:
    if model.source is None:
        return {}
    told = {name: model.source.settings.get(name) for name in ("bos_token_id", "eos_token_id")}
    try:
        generation = json.loads(model.source.companions.get(_GENERATION, b"{}"))
    except ValueError:  # it is carried along as it is, and never needed otherwise
        generation = {}
    own = generation if isinstance(generation, dict) else {}
    return told | {name: own[name] for name in told if own.get(name) is not None}
