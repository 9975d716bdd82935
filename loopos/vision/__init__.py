"""Pictures: the data that a captioner and an encoder of pictures learn from."""

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

__all__ = [
    "Augment",
    "CaptionBatch",
    "CaptionBatches",
    "CaptionFolder",
    "CaptionHeldOut",
    "Digits",
    "PictureError",
    "Scene",
    "Shapes",
    "TokenVocabulary",
    "WordVocabulary",
    "parse_caption",
]
