"""LoopOS: a CPU training engine for transformers."""

from loopos import _core

__version__ = "0.1.0"
