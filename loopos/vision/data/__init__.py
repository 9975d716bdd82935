"""Pictures with captions: sets that are made on the spot, and folders as people have them."""

from .batches import CaptionBatches, CaptionHeldOut
from .decoding import PictureError
from .digits import Digits
from .folder import CaptionFolder
from .framing import Augment
from .parts import Part, Pictures
from .rows import CaptionBatch
from .scenes import Scene, parse_caption
from .shapes import Shapes
from .vocabulary import TokenVocabulary, WordVocabulary, load_vocabulary, save_vocabulary

__all__ = [
    "Augment",
    "CaptionBatch",
    "CaptionBatches",
    "CaptionFolder",
    "CaptionHeldOut",
    "Digits",
    "Part",
    "PictureError",
    "Pictures",
    "Scene",
    "Shapes",
    "TokenVocabulary",
    "WordVocabulary",
    "load_vocabulary",
    "parse_caption",
    "save_vocabulary",
]
