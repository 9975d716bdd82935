"""Pictures as loopos.train takes them."""

import numpy as np
import pytest

from loopos.config import ModelConfig
from loopos.data.order import permutation
from loopos.vision import (
    Augment,
    CaptionBatches,
    CaptionerConfig,
    CaptionHeldOut,
    Digits,
    Shapes,
    TokenVocabulary,
    VisionConfig,
)
from loopos.vision.data.framing import warped
from loopos.vision.data.sources import (
    CaptionSource,
    HeldOutPictures,
    LabelledBatches,
    held_out_part,
    open_captions,
    open_labelled,
    vocabulary_of,
)

SHAPES = Shapes(40, seed=1)
WORDS = vocabulary_of(SHAPES)
SHAPE = {"batch_size": 4, "grad_accum": 1, "seed": 1, "seq_len": None, "eval_tokens": None}


def config(vocab_size=WORDS.vocab_size, image_size=64):
    return CaptionerConfig(VisionConfig(image_size, 8, 1, 1, 8), ModelConfig(vocab_size, 80, 1, 1, 8))


def test_a_set_brings_what_is_held_out_and_pictures_come_in_the_size_of_the_model():
    opened = open_captions(config(image_size=32), SHAPES, None, None, **SHAPE)
    ids, targets, images = opened.train.batch(0)
    assert images.shape == (4, 32, 32, 3)
    assert ids.shape == targets.shape == (4, opened.train.seq_len)
    assert sum(len(batch[0]) for batch in opened.eval) == len(SHAPES.part("valid"))
    assert opened.eval.share == 1
    assert opened.tokenizer == WORDS
    assert held_out_part(SHAPES).part == "valid"
    assert len(opened.eval) == 1


def test_where_one_part_that_is_held_out_is_empty_the_other_one_is_taken():
    class Of(Shapes):
        empty = ()

        def indices(self, part):
            return super().indices(part)[: 0 if part in self.empty else None]

    pictures = Of(40)
    assert [held_out_part(pictures, name).part for name in ("valid", "test")] == ["valid", "test"]
    pictures.empty = ("valid",)
    assert [held_out_part(pictures, name).part for name in ("valid", "test")] == ["test", "test"]
    pictures.empty = ("test",)
    assert [held_out_part(pictures, name).part for name in ("valid", "test")] == ["valid", "valid"]
    pictures.empty = ("valid", "test")
    with pytest.raises(ValueError, match=r"of its 40 pictures none is held out; .*give it more pictures"):
        held_out_part(pictures)
    with pytest.raises(ValueError, match=r"valid of Shapes\(40.*> has no picture$"):
        CaptionHeldOut(pictures.part("valid"), WORDS)


def test_eval_tokens_bound_an_evaluation():
    opened = open_captions(config(), SHAPES, None, None, **SHAPE | {"eval_tokens": 1})
    assert sum(len(batch[0]) for batch in opened.eval) == 1
    assert opened.eval.share == 1 / len(SHAPES.part("valid"))


def test_a_tokenizer_makes_the_ids():
    opened = open_captions(config(259), SHAPES, None, "bytes", **SHAPE)
    assert isinstance(opened.tokenizer, TokenVocabulary)
    ids = opened.train.batch(0)[0]
    assert opened.tokenizer.decode(ids[0]) == opened.train.batches.pictures(0)[0][1]


def test_a_row_says_which_picture_it_is():
    batches = CaptionBatches(SHAPES.part("train"), WORDS, batch_size=20, last="short")
    source = CaptionSource(batches)
    name, caption = batches.pictures(1)[3]
    assert source.origin(1, 0, 3) == f"picture {name} with the caption {caption!r}"
    assert source.origin(1, 0, 15) == "not there"
    assert source.steps_per_epoch == 2
    assert source.fingerprint() == batches.fingerprint()


def test_pictures_that_are_no_squares_are_refused():
    with pytest.raises(ValueError, match="this encoder's are 64 x 32"):
        open_captions(config(image_size=(64, 32)), SHAPES, None, None, **SHAPE)


def test_labelled_batches_are_each_picture_once_an_epoch():
    images, labels = np.zeros((6, 8, 8, 3), np.uint8), np.arange(6)
    batches = LabelledBatches(images, labels, batch_size=2)
    assert batches.steps_per_epoch == 3
    assert sorted(np.concatenate([batches.batch(step)[1] for step in range(3)])) == list(range(6))
    assert [len(part) for _, part in HeldOutPictures(images, labels, 4)] == [4, 2]
    assert batches.fingerprint() != LabelledBatches(images, labels[::-1].copy(), batch_size=2).fingerprint()
    other = images.copy()
    other[5, 7, 7, 2] = 1
    assert len({LabelledBatches(each, labels, batch_size=2).digest() for each in (images, images.copy(), other)}) == 2


@pytest.mark.parametrize("warp", [0.0, 0.1])
def test_a_process_may_have_no_rows_of_a_batch(warp):
    images, labels = np.zeros((6, 8, 8, 3), np.uint8), np.arange(6)
    pictures, classes = LabelledBatches(images, labels, batch_size=2, warp=warp).part(0, 0, 1, 1)
    assert (pictures.shape, classes.shape) == ((0, 8, 8, 3), (0,))


def test_labelled_pictures_are_warped_as_their_set_says_and_held_out_ones_are_not():
    pytest.importorskip("sklearn", reason="the digits are scikit-learn's (extra [sklearn])")
    digits = Digits(16)
    assert digits.augment.warp > 0
    assert digits.augment == Augment(False, False, digits.augment.warp)
    vision = VisionConfig(16, 8, 1, 1, 8, num_classes=10)
    opened = open_labelled(vision, digits, None, 4, seed=3)
    part, step = digits.part("train"), 361  # 4 x 361 = 1442 + 2: the border of an epoch lies in it
    images, labels = opened.train.batch(step)
    assert len(part) == 1442
    order = [*permutation(1442, 3, 1)[2:6]]
    assert np.array_equal(labels, part.labels[order])
    plain = part.images()[order]
    assert np.array_equal(images, warped(plain, digits.augment.warp, [(3, int(row), 1) for row in order]))
    for own, whole in zip(opened.train.part(361, 0, 1, 3), (images, labels), strict=True):
        assert np.array_equal(own, whole[1:3])
    border = opened.train.batch(360)[0]
    rows = [(3, int(r), 0) for r in permutation(1442, 3, 0)[1440:]] + [
        (3, int(r), 1) for r in permutation(1442, 3, 1)[:2]
    ]
    assert np.array_equal(border, warped(part.images()[[r for _, r, _ in rows]], digits.augment.warp, rows))
    assert np.array_equal(next(iter(opened.eval))[0], digits.part("test").images()[:4])
    arrays = open_labelled(vision, (part.images(), part.labels), None, 4, seed=3).train
    assert np.array_equal(arrays.batch(step)[0], plain)
    assert arrays.fingerprint() != opened.train.fingerprint()


def test_labels_that_do_not_fit_are_refused():
    vision = VisionConfig(8, 4, 1, 1, 8, num_classes=3)
    images = np.zeros((4, 8, 8, 3), np.uint8)
    for labels, error in (
        (np.array([0, 1, 2, 3]), "from 0 to 2, got 0 to 3"),
        (np.array([0.0, 1, 2, 0]), "as many ints"),
        (np.array([0, 1]), "as many ints"),
    ):
        with pytest.raises(ValueError, match=error):
            open_labelled(vision, (images, labels), None, 2)
    with pytest.raises(TypeError, match="a set of pictures with labels"):
        open_labelled(vision, SHAPES.part("train"), None, 2)
