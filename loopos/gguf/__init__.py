"""GGUF files, the format of llama.cpp, read and written (extra [gguf])."""

from .reading import read
from .writing import write

__all__ = ["read", "write"]
