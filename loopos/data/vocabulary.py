"""Whether ids are those of the model: a text must be read by the tokenizer whose ids the weights learned."""

from __future__ import annotations

import warnings
from typing import Any


def padded(size: int, tokens: int) -> bool:
    """Whether a vocabulary of ``size`` is one of ``tokens``, or that made larger, as is done for speed (GPT-2: 50257
    and 50304; Phi: 50295 and 51200)."""
    rounded = size % 8 == 0 and size - tokens < max(128, tokens / 50)
    return size == tokens or (tokens < size and rounded)


def require_room(tokenizer: Any, size: int) -> None:
    """ValueError when a tokenizer has ids that a model of ``size`` does not. Fewer are legal: vocabularies are made
    larger for speed."""
    if tokenizer.vocab_size > size:
        raise ValueError(
            f"the tokenizer has {tokenizer.vocab_size} tokens, the model {size} ids (vocab_size): texts may need "
            "ids that it does not have; take the model's own tokenizer, or a model of a larger vocabulary"
        )


def warn_of_another(asked: Any, tokenizer: Any, size: int) -> None:
    """A UserWarning when texts become ids that a Model of ``size`` ids can hardly have learned. asked: the argument of
    train, or the model's own tokenizer; tokenizer: what was made of it.
    One that is named or passed is taken as meant where it fits."""
    tokens = getattr(tokenizer, "vocab_size", size)
    if asked is None and tokens != size:
        warnings.warn(
            f"train: the text is read as bytes, ids 0..{tokens - 1}, and the model has {size}: if its weights learned "
            "the ids of a tokenizer, pass that (tokenizer=); tokenizer='bytes' says that bytes are meant",
            UserWarning,
            stacklevel=3,
        )
    elif isinstance(asked, str) and asked == "chars" and tokens != size:
        warnings.warn(
            f"train: tokenizer 'chars' makes a vocabulary of its own, here of {tokens}, and the model has {size}: if "
            "its weights learned others, pass the CharTokenizer they were trained with",
            UserWarning,
            stacklevel=3,
        )
