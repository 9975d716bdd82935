"""Pictures with captions: sets that are made on the spot, and folders as people have them."""

from .digits import Digits
from .parts import Part, Pictures
from .scenes import Scene, parse_caption
from .shapes import Shapes

__all__ = ["Digits", "Part", "Pictures", "Scene", "Shapes", "parse_caption"]
