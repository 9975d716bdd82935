"""Pictures with captions: sets that are made on the spot, and folders as people have them."""

from .parts import Part, Pictures
from .scenes import Scene, parse_caption
from .shapes import Shapes

__all__ = ["Part", "Pictures", "Scene", "Shapes", "parse_caption"]
