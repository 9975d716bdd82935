"""The families of Hugging Face models, one file each, and the one table of them.

A new family is a file here, a line below, and a file of its tests.
"""

from .family import Family
from .gemma3 import GEMMA3
from .gpt2 import GPT2
from .gpt_neox import GPT_NEOX
from .llama import LLAMA
from .mistral import MISTRAL
from .olmo2 import OLMO2
from .phi3 import PHI3
from .qwen2 import QWEN2
from .qwen3 import QWEN3
from .smollm3 import SMOLLM3

# A configuration that several can write is written as the first of them.
_ALL = (GPT2, LLAMA, MISTRAL, QWEN2, QWEN3, GEMMA3, SMOLLM3, GPT_NEOX, PHI3, OLMO2)
FAMILIES: dict[str, Family] = {family.model_type: family for family in _ALL}

__all__ = ["FAMILIES", "Family"]
