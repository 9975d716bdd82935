"""Pictures: encoders, captioners, and the data that they learn from."""

from .captioner import Captioner
from .config import CaptionerConfig, VisionConfig
from .data import (
    Augment,
    CaptionBatch,
    CaptionBatches,
    CaptionFolder,
    CaptionHeldOut,
    Digits,
    PictureError,
    Scene,
    Shapes,
    TokenVocabulary,
    WordVocabulary,
    parse_caption,
)
from .encoder import ImageEncoder

__all__ = [
    "Augment",
    "CaptionBatch",
    "CaptionBatches",
    "CaptionFolder",
    "CaptionHeldOut",
    "Captioner",
    "CaptionerConfig",
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
