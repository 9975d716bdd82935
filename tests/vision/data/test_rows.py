"""Rows: ids begin, targets follow and end, padding is not learned."""

from __future__ import annotations

import numpy as np
import pytest

from loopos.vision import Augment, Shapes, TokenVocabulary, WordVocabulary
from loopos.vision.data.framing import warped
from loopos.vision.data.rows import Rows

SHAPES = Shapes(40, captions=2)
CAPTIONS = [caption for index in range(40) for caption in SHAPES.captions(index)]


def test_targets_are_what_follows():
    vocabulary = WordVocabulary.of(CAPTIONS)
    rows = Rows(SHAPES.part("train"), vocabulary)
    images, ids, targets = rows.make([(5, 0), (9, 1)])
    assert images.dtype == np.uint8
    assert ids.dtype == targets.dtype == np.int64
    for row, (picture, caption) in enumerate([(5, 0), (9, 1)]):
        number = int(rows.numbers[picture])
        tokens = vocabulary.encode(SHAPES.captions(number)[caption])
        assert np.array_equal(images[row], SHAPES.image(number))
        assert ids[row, : len(tokens) + 1].tolist() == [vocabulary.bos, *tokens]
        assert targets[row, : len(tokens) + 1].tolist() == [*tokens, vocabulary.eos]
        assert set(ids[row, len(tokens) + 1 :].tolist()) <= {vocabulary.pad}
        assert set(targets[row, len(tokens) + 1 :].tolist()) <= {-100}
    assert rows.max_tokens == 1 + max(len(vocabulary.encode(c)) for n in rows.numbers for c in SHAPES.captions(int(n)))
    assert (rows.cut, rows.unknown) == (0, 0)


def test_a_caption_that_is_cut_has_no_end():
    vocabulary = WordVocabulary.of(CAPTIONS)
    rows = Rows(SHAPES.part("train"), vocabulary, max_tokens=3)
    _, ids, targets = rows.make([(5, 0)])
    tokens = vocabulary.encode(SHAPES.captions(int(rows.numbers[5]))[0])
    assert (ids.tolist(), targets.tolist()) == ([[vocabulary.bos, *tokens[:2]]], [tokens[:3]])
    assert rows.cut == 2 * len(rows) - sum(len(c.split()) <= 2 for n in rows.numbers for c in SHAPES.captions(int(n)))


def test_an_unknown_word_is_read_and_not_learned():
    vocabulary = WordVocabulary([word for word in WordVocabulary.of(CAPTIONS).entries if word != "circle"])
    rows = Rows(SHAPES.part("train"), vocabulary)
    picture = next(n for n, captions in enumerate(rows.captions) if "circle" in captions[0])
    _, ids, targets = rows.make([(picture, 0)])
    at = int(np.flatnonzero(ids[0] == vocabulary.unknown)[0])
    assert targets[0, at - 1] == -100
    assert rows.unknown == sum(caption.count("circle") for captions in rows.captions for caption in captions)
    assert vocabulary.unknown not in targets


def test_float_images_are_from_0_to_1():
    rows = Rows(SHAPES.part("train"), TokenVocabulary("bytes"), dtype="float32")
    images = rows.make([(0, 0)]).images
    assert images.dtype == np.float32
    assert np.array_equal(images[0], SHAPES.image(int(rows.numbers[0])) / np.float32(255))


def test_shapes_are_not_mirrored():
    with pytest.raises(ValueError, match="of which a mirrored one is another; pass flip=False"):
        Rows(SHAPES.part("train"), TokenVocabulary("bytes"), augment=Augment())
    pytest.importorskip("PIL", reason="resampling needs the extra [vision]")
    rows = Rows(SHAPES.part("train"), TokenVocabulary("bytes"), augment=Augment(flip=False), image_size=56)
    square = SHAPES.square(int(rows.numbers[0]), 64)
    assert np.array_equal(rows.make([(0, 0)]).images[0], square[4:60, 4:60])


def test_training_warps_each_picture_by_its_place_and_nothing_that_is_held_out():
    rows = Rows(SHAPES.part("train"), TokenVocabulary("bytes"), augment=Augment(False, False, 0.1))
    plain = rows.make([(0, 0), (3, 1)]).images
    assert np.array_equal(plain[1], SHAPES.image(int(rows.numbers[3])))
    seen = rows.make([(0, 0), (3, 1)], (7, [4, 5])).images
    assert np.array_equal(seen, warped(plain, 0.1, [(7, int(rows.numbers[0]), 4), (7, int(rows.numbers[3]), 5)]))
    assert not np.array_equal(seen, plain)
    assert np.array_equal(rows.make([(3, 0)], (7, [5])).images[0], seen[1])


def test_a_part_without_a_picture_is_refused():
    with pytest.raises(ValueError, match=r"has no picture$"):
        Rows(Shapes(5).part("test"), TokenVocabulary("bytes"))
