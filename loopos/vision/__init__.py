"""Pictures: the data that a captioner and an encoder of pictures learn from."""

from .data import Digits, Scene, Shapes, parse_caption

__all__ = ["Digits", "Scene", "Shapes", "parse_caption"]
