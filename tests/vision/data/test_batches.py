"""Batches of pictures and captions: pure functions of the step, every picture once an epoch."""

from __future__ import annotations

from collections import Counter

import numpy as np
import pytest

from loopos.vision import Augment, CaptionBatches, CaptionHeldOut, Shapes, TokenVocabulary, WordVocabulary

SHAPES = Shapes(50, captions=2)
VOCABULARY = WordVocabulary.of(caption for index in range(50) for caption in SHAPES.captions(index))


def batches(**changed):
    return CaptionBatches(SHAPES.part("train"), VOCABULARY, **{"batch_size": 6, **changed})


def same(one, other):
    return all(np.array_equal(a, b) for a, b in zip(one, other, strict=True))


def test_a_batch_is_a_pure_function_of_its_step_whatever_is_made_ahead():
    one, other = batches(), batches(ahead=0)
    wanted = [other.batch(step) for step in range(10)]
    assert all(same(one.batch(step), wanted[step]) for step in range(10))
    assert all(same(one.batch(step), wanted[step]) for step in (7, 2, 9, 0, 0))
    assert all(same(batches().batch(step), wanted[step]) for step in (4,))  # a resume
    assert not same(batches(seed=2).batch(0), wanted[0])
    one.close()
    assert same(one.batch(3), wanted[3])
    one.close()


def test_rows_of_a_batch_are_made_alone(monkeypatch):
    one, whole = batches(), batches(ahead=0)
    made, make = [], one.rows.make

    def counted(rows, *rest):
        made.append(len(rows))
        return make(rows, *rest)

    monkeypatch.setattr(one.rows, "make", counted)
    for first, last in ((0, 4), (4, 6), (3, 3)):
        for step in (0, 1, 7):
            assert same(one.part(step, 0, first, last), [each[first:last] for each in whole.batch(step)])
    one.close()
    assert set(made) == {0, 2, 4}
    with pytest.raises(ValueError, match="batches must be of one size, got last='short'"):
        batches(last="short").part(0, 0, 0, 1)


def test_a_set_is_decoded_once_for_all_who_use_it(monkeypatch):
    shapes = Shapes(20)
    calls = []
    monkeypatch.setattr(Shapes, "square", lambda self, index, side: calls.append(index) or self.image(index))
    CaptionBatches(shapes.part("train"), VOCABULARY).batch(0)
    list(CaptionHeldOut(shapes.part("test"), VOCABULARY))
    assert sorted(calls) == list(range(20))


def test_an_epoch_is_every_picture_once_and_two_epochs_every_caption():
    data = batches(batch_size=5, grad_accum=2)
    assert len(data) == data.steps_per_epoch == 4
    told = [each for step in range(8) for micro in range(2) for each in data.pictures(step, micro)]
    names = {SHAPES.name(int(number)) for number in SHAPES.indices("train")}
    assert {name for name, _ in told[:40]} == names
    assert {name for name, _ in told[40:]} == names
    assert set(Counter(told).values()) == {1}
    assert 10 < sum(SHAPES.captions(int(name.split()[1]))[0] == caption for name, caption in told[:40]) < 30


def test_what_pictures_tells_is_what_the_batch_has():
    data = batches(ahead=0)
    images, ids, _ = data.batch(8)
    for row, (name, caption) in enumerate(data.pictures(8)):
        assert np.array_equal(images[row], SHAPES.image(int(name.split()[1])))
        assert VOCABULARY.decode(ids[row]) == caption


def test_the_last_batch_is_full_or_has_what_is_left():
    full, short = batches(batch_size=12), batches(batch_size=12, last="short")
    assert [len(full.batch(step).ids) for step in range(5)] == [12] * 5
    assert [len(short.batch(step).ids) for step in range(8)] == [12, 12, 12, 4] * 2
    told = [name for step in range(4) for name, _ in short.pictures(step)]
    assert len(set(told)) == 40


def test_held_out_pictures_come_once_in_order():
    held_out = CaptionHeldOut(SHAPES.part("test"), VOCABULARY, batch_size=2, max_tokens=30)
    got = list(held_out)
    assert [len(batch.ids) for batch in got] == [2, 2, 1]
    assert len(held_out) == 3
    assert held_out.numbers.tolist() == [9, 19, 29, 39, 49]
    assert np.array_equal(np.concatenate([batch.images for batch in got])[3], SHAPES.image(39))
    assert VOCABULARY.decode(got[0].ids[1]) == SHAPES.captions(19)[0]
    assert got[0].ids.shape == (2, 30)
    every = CaptionHeldOut(SHAPES.part("test"), VOCABULARY, every=True)
    assert every.numbers.tolist() == [9, 9, 19, 19, 29, 29, 39, 39, 49, 49]
    some = CaptionHeldOut(SHAPES.part("train"), VOCABULARY, pictures=4)
    assert (len(some.numbers), some.share) == (4, 0.1)


def test_the_fingerprint_tells_settings_apart():
    told = [batches().fingerprint(), batches(last="short").fingerprint(), batches(max_tokens=9).fingerprint()]
    told.append(CaptionBatches(SHAPES.part("train"), TokenVocabulary("bytes")).fingerprint())
    assert batches(seed=3, ahead=0).fingerprint() == told[0]
    assert told[0]["seen"][2:] == [False, False, "full"]  # as of a checkpoint from before there was a warp
    told.append(batches(augment=Augment(False, False, 0.1)).fingerprint())
    assert all(one != other for at, one in enumerate(told) for other in told[:at])


@pytest.mark.parametrize(
    ("changed", "error", "says"),
    [
        ({"batch_size": 0}, ValueError, "batch_size must be an integer of at least 1"),
        ({"last": "drop"}, ValueError, "last must be one of 'full', 'short'"),
        ({"last": "short", "grad_accum": 2}, ValueError, "leaves micro-batches empty with grad_accum 2"),
        ({"dtype": "float64"}, ValueError, "dtype must be one of 'uint8', 'float32'"),
        ({"ahead": 100}, ValueError, "ahead must be an integer from 0 to 64"),
    ],
)
def test_refusals(changed, error, says):
    with pytest.raises(error, match=says):
        batches(**changed)
    with pytest.raises(ValueError, match="expected step >= 0 and micro from 0 to 0, got step -1"):
        batches().batch(-1)
