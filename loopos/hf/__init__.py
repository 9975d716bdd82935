"""Hugging Face folders (config.json, model.safetensors) of the GPT-2 and Llama families, without torch or transformers.

:func:`read_pretrained` and :func:`write_pretrained` know nothing of the model itself: they map a folder to a
ModelConfig and named arrays, and back.
"""

from .folder import Pretrained, check_dtype, is_pretrained, read_pretrained, write_pretrained
from .source import Source

__all__ = ["Pretrained", "Source", "check_dtype", "is_pretrained", "read_pretrained", "write_pretrained"]
