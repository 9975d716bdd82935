"""The families of Hugging Face models, one file each, and the one table of them.

A new family is a file here, a line below, and a file of its tests.
"""

from .family import Family
from .gpt2 import GPT2
from .llama import LLAMA

FAMILIES: dict[str, Family] = {family.model_type: family for family in (GPT2, LLAMA)}

__all__ = ["FAMILIES", "Family"]
