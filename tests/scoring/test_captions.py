"""Exact match and BLEU of captions."""

import numpy as np
import pytest

from loopos.scoring.captions import bleu_of, score_captions
from loopos.vision import CaptionBatches, Shapes, WordVocabulary

SHAPES = Shapes(60, seed=1, captions=2)
PART = SHAPES.part("test")
WORDS = WordVocabulary.of(caption for index in range(60) for caption in SHAPES.captions(index))


class Knowing:
    """Says the second caption of all but the first picture that it is shown."""

    vocabulary = WORDS

    class config:
        class encoder:
            height = 64

    def caption(self, images, beams):
        known = {PART.image(k).tobytes(): PART.captions(k)[1] for k in range(1, len(PART))}
        return [known.get(image.tobytes(), f"a circle of {beams}") for image in images]


def test_a_caption_is_right_that_is_one_of_the_pictures():
    found = score_captions(Knowing(), PART, beams=3)
    assert found.exact == 1 - 1 / len(PART)
    assert [each.right for each in found.pictures] == [False] + [True] * (len(PART) - 1)
    assert found.pictures[0].said == "a circle of 3"
    assert found.pictures[0].captions == PART.captions(0)
    assert str(found).startswith("83.3% of 6")
    assert found.bleu is None


def test_so_many_pictures_evenly_spread():
    batches = CaptionBatches(SHAPES.part("train"), WORDS)
    assert len(score_captions(Knowing(), PART, pictures=2, batches=batches).pictures) == 2
    with pytest.raises(ValueError, match="pictures"):
        score_captions(Knowing(), PART, pictures=0)


def test_bleu_is_that_of_sacrebleu():
    sacrebleu = pytest.importorskip("sacrebleu", reason="BLEU is its (extra [vision])")
    said = ["a red circle above a blue square", "a green circle"]
    captions = [("a red circle over a blue square", "a red circle above a blue circle"), ("a green circle",)]
    own = sacrebleu.corpus_bleu(said, [[c[0] for c in captions], [captions[0][1], None]]).score
    assert bleu_of(said, captions) == pytest.approx(own)
    assert bleu_of(["a b c d e"], [("a b c d e",)]) == pytest.approx(100)
    assert score_captions(Knowing(), PART, bleu=True).bleu > 50
    assert np.isfinite(bleu_of([""], [("a b c d",)]))


def test_without_sacrebleu_the_extra_is_named(monkeypatch):
    import sys

    monkeypatch.setitem(sys.modules, "sacrebleu", None)
    with pytest.raises(ImportError, match=r"pip install 'loopos\[vision\]'"):
        bleu_of(["a"], [("a b c d",)])
    assert bleu_of(["a"], [("a",)]) is None  # there is nothing to count
