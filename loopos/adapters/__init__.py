"""Adapters: a few matrices that learn beside a frozen model, and the folders in which they are kept."""

from .lora import LoRA
from .modulated import Modulated

__all__ = ["LoRA", "Modulated"]
