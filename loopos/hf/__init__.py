"""Hugging Face folders (config.json, safetensors) of the families in ``families/``, without torch or transformers.

:func:`open_pretrained` and :func:`write_pretrained` know nothing of the model itself: they map a folder to a
ModelConfig and named arrays, and back.
"""

from .folder import (
    Opened,
    is_pretrained,
    open_pretrained,
    refuse_nonfinite,
    write_pretrained,
)
from .source import Source
from .tensors import HalfPrecision, Weights

__all__ = [
    "HalfPrecision",
    "Opened",
    "Source",
    "Weights",
    "is_pretrained",
    "open_pretrained",
    "refuse_nonfinite",
    "write_pretrained",
]
