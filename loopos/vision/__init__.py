"""Pictures: the data that a captioner and an encoder of pictures learn from."""

from .data import Scene, Shapes, parse_caption

__all__ = ["Scene", "Shapes", "parse_caption"]
