"""A captioner and its data by name, and how it is trained: what ``loopos caption``, ``compare`` and ``classify`` begin
with."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import asdict, dataclass, replace
from functools import cached_property
from pathlib import Path
from typing import Any, Literal

from loopos import checks

from .config import FUSIONS, CaptionerConfig
from .data.batches import CaptionBatches
from .data.digits import Digits
from .data.folder import CaptionFolder, has_captions
from .data.parts import Part, Pictures
from .data.shapes import Shapes
from .data.sources import held_out_part
from .data.vocabulary import WordVocabulary

SHAPES, DIGITS = "shapes", "digits"
PRESETS = ("tiny", "nano_8gb")
STEPS = {SHAPES: 1500, DIGITS: 5000}  # updates, unless asked otherwise; of a folder epochs
EPOCHS = 5
SIDES = {"tiny": 64, "nano_8gb": 224}
DIGITS_SIDE = 16
DROPOUT = {DIGITS: 0.1}  # unless asked otherwise; of others none
TRAINING = {"batch_size": 32, "learning_rate": 1e-3, "weight_decay": 0.05, "betas": (0.9, 0.99)}
MUON = {"muon_lr": 0.02, "weight_decay": 0.1}
RARE = 5  # a word of a folder that is rarer is unknown


@dataclass(frozen=True)
class CaptionSetting:
    """data: "shapes", "digits", or a folder. preset: size of the model. image_size: None: the preset's. subset: use
    only so many pictures; all, where there are no more. min_count: words that are rarer are
    unknown; None: 5 of a folder, else 1. cache: a folder that keeps the decoded pictures. dropout: of both halves of
    the model; None: 0.1 of the digits, else 0. fusion: as of a CaptionerConfig. Pictures are opened when they are asked
    for."""

    data: str = SHAPES
    preset: str = "tiny"
    image_size: int | None = None
    subset: int | None = None
    min_count: int | None = None
    cache: str | None = None
    dropout: float | None = None
    fusion: Literal["prefix", "cross"] = "prefix"

    def __post_init__(self) -> None:
        checks.choice("CaptionSetting", "preset", self.preset, PRESETS)
        checks.choice("CaptionSetting", "fusion", self.fusion, FUSIONS)
        if self.image_size is not None:
            checks.integer("CaptionSetting", "image_size", self.image_size, low=4)  # of which a patch is a quarter

    def to_dict(self) -> dict[str, Any]:
        return asdict(self)

    @property
    def drawn(self) -> bool:
        """Made on the spot."""
        return self.data in STEPS

    @property
    def name(self) -> str:
        return self.data if self.drawn else Path(self.data).resolve().name

    @property
    def length(self) -> dict[str, int]:
        """max_steps or epochs of a training, unless asked otherwise."""
        return {"max_steps": STEPS[self.data]} if self.drawn else {"epochs": EPOCHS}

    @cached_property
    def pictures(self) -> Pictures:
        side = self.image_size or (DIGITS_SIDE if self.data == DIGITS else SIDES[self.preset])
        if self.data == DIGITS:
            return Digits(side, self.subset)
        if self.data == SHAPES:
            return Shapes(image_size=side) if self.subset is None else Shapes(self.subset, image_size=side)
        return CaptionFolder(self.data, subset=self.subset, image_size=side, cache=self.cache)

    @property
    def held_out(self) -> Part:
        """What a training evaluates on; ``test`` is for the end."""
        return held_out_part(self.pictures)

    @property
    def test(self) -> Part:
        return held_out_part(self.pictures, "test")

    @cached_property
    def words(self) -> WordVocabulary:
        least = self.min_count or (1 if self.drawn else RARE)
        part = self.pictures.part("train")
        return WordVocabulary.of((c for i in range(len(part)) for c in part.captions(i)), min_count=least)

    def batches(self, batch_size: int, grad_accum: int = 1, seed: int = 1337) -> CaptionBatches:
        part = self.pictures.part("train")
        return CaptionBatches(part, self.words, batch_size=batch_size, grad_accum=grad_accum, seed=seed)

    def config(self, longest: int) -> CaptionerConfig:
        """Of a captioner for captions of up to ``longest`` tokens."""
        size = self.words.vocab_size
        if self.preset == "nano_8gb":
            config = CaptionerConfig.nano_8gb(size, max(longest, 40))
        else:
            config = CaptionerConfig.tiny(size, max(longest, 16))
            if self.data == DIGITS:  # two words a picture
                encoder = replace(config.encoder, d_model=96, d_ff=384)
                decoder = replace(config.decoder, d_model=96, d_ff=384, n_layer=1)
                config = replace(config, encoder=encoder, decoder=decoder)
        side = self.pictures.image_size
        patch = min(config.encoder.patch_size, side // 4)
        dropout = DROPOUT.get(self.data, 0.0) if self.dropout is None else self.dropout
        encoder = replace(config.encoder, image_size=side, patch_size=patch, dropout=dropout)
        decoder = replace(config.decoder, dropout=dropout)
        return replace(config, encoder=encoder, decoder=decoder, fusion=self.fusion)


def training_of(data: str, given: Mapping[str, Any]) -> dict[str, Any]:
    """Keywords of loopos.train for that set, unless asked otherwise. Sets that are drawn on the spot are learned by
    Muon, which comes farther in the minutes of a run, folders by AdamW. given: what was asked for; its optimizer
    decides which rates are usual."""
    optimizer = given.get("optimizer") or ("muon" if data in STEPS else "adamw")
    return TRAINING | {"optimizer": optimizer} | (MUON if optimizer == "muon" else {})


def is_captions(data: str | None) -> bool:
    """Whether ``loopos compare`` takes DATA for pictures: shapes, digits (where no file has that name), or a folder
    that holds captions and no examples of text."""
    if data is None:
        return False
    path = Path(data)
    if not path.exists():
        return data in STEPS
    return path.is_dir() and not (path / "train.jsonl").is_file() and has_captions(path)
