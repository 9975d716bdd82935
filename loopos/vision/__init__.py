"""Pictures: encoders, captioners, and the data that they learn from."""

from .captioner import Captioner
from .config import CaptionerConfig, VisionConfig
from .data.batches import CaptionBatches, CaptionHeldOut
from .data.classes import ClassFolder
from .data.decoding import PictureError
from .data.digits import Digits
from .data.folder import CaptionFolder
from .data.framing import Augment
from .data.rows import CaptionBatch
from .data.scenes import Scene, parse_caption
from .data.shapes import Shapes
from .data.vocabulary import TokenVocabulary, WordVocabulary
from .encoder import ImageEncoder
from .safe import SAFE

__all__ = [
    "SAFE",
    "Augment",
    "CaptionBatch",
    "CaptionBatches",
    "CaptionFolder",
    "CaptionHeldOut",
    "Captioner",
    "CaptionerConfig",
    "ClassFolder",
    "Digits",
    "ImageEncoder",
    "PictureError",
    "Scene",
    "Shapes",
    "TokenVocabulary",
    "VisionConfig",
    "WordVocabulary",
    "parse_caption",
]
