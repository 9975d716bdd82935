"""How good a captioner's captions are: exact match, and BLEU."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any, NamedTuple

from loopos import checks
from loopos.vision.data.batches import CaptionHeldOut
from loopos.vision.data.parts import Part

SCORES = "caption_scores.json"  # in a run


class Captioned(NamedTuple):
    """A picture, what was said of it, and what its captions are."""

    name: str
    said: str
    captions: tuple[str, ...]
    right: bool  # what was said is one of them


class CaptionScores(NamedTuple):
    """exact: share of pictures of which one of their captions was said, as the vocabulary writes it. bleu: of the
    corpus, 0 to 100, by sacrebleu, in lower case; None where it was not asked for. pictures: in the order of the part.
    """

    exact: float
    bleu: float | None
    pictures: list[Captioned]

    def __str__(self) -> str:
        bleu = "" if self.bleu is None else f", BLEU {self.bleu:.1f}"
        return f"{self.exact:.1%} of {len(self.pictures)} held-out pictures with one of their captions{bleu}"


def score_captions(
    model: Any,
    part: Part,
    *,
    beams: int = 1,
    pictures: int | None = None,
    batches: Any = None,
    bleu: bool = False,
) -> CaptionScores:
    """Of the captions that ``model`` gives to the pictures of ``part``.

    pictures: as many of them, evenly spread; None: all. batches: the CaptionBatches of its training, so that pictures
    are seen at the same scale. bleu: needs sacrebleu (extra [vision]); ImportError without it."""
    rows = getattr(batches, "rows", None)
    if pictures is not None:
        pictures = min(len(part), checks.count("score_captions", "pictures", pictures))
    held_out = CaptionHeldOut(
        part,
        model.vocabulary,
        image_size=model.config.encoder.height,
        batch_size=32,
        augment=getattr(rows, "augment", None),
        pictures=pictures,
    )
    said = [text for images, _, _ in held_out for text in model.caption(images, beams=beams)]
    found = []
    for number, text in zip(held_out.numbers, said, strict=True):
        captions = part.pictures.captions(int(number))
        as_written = {_written(model.vocabulary, caption) for caption in captions}
        found.append(Captioned(part.pictures.name(int(number)), text, captions, text in as_written))
    exact = sum(each.right for each in found) / len(found)
    score = bleu_of(said, [each.captions for each in found]) if bleu else None
    return CaptionScores(exact, score, found)


def _written(vocabulary: Any, caption: str) -> str:
    """A caption as the vocabulary writes it. A word that it does not know is never said, so such a caption has none."""
    ids = vocabulary.encode(caption)
    return "" if vocabulary.unknown in ids else vocabulary.decode(ids)


def bleu_of(said: Sequence[str], captions: Sequence[Sequence[str]]) -> float | None:
    """BLEU of a corpus (Papineni et al. 2002), 0 to 100, by sacrebleu in lower case; None where no caption has the
    four words in a row that it counts. ImportError naming the extra."""
    if not any(len(caption.split()) >= 4 for each in captions for caption in each):
        return None
    try:
        import sacrebleu
    except ImportError:
        raise ImportError("BLEU needs the package sacrebleu; pip install 'loopos[vision]'") from None
    most = max(len(each) for each in captions)
    references = [[each[k] if k < len(each) else None for each in captions] for k in range(most)]
    return float(sacrebleu.corpus_bleu(list(said), references, lowercase=True).score)
