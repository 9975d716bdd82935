"""Squares, their middles, and what training varies."""

from __future__ import annotations

import numpy as np
import pytest

from loopos.vision.data.framing import Augment, centre, kept_side, tells_sides, varied

SQUARE = np.arange(16 * 16 * 3).reshape(16, 16, 3)


def test_a_square_to_be_cropped_is_kept_larger():
    assert kept_side(224, Augment()) == 256
    assert kept_side(64, Augment()) == 74
    assert kept_side(64, Augment(crop=False)) == 64
    assert np.array_equal(centre(SQUARE, 14), SQUARE[1:15, 1:15])


def test_crops_and_reflections_are_drawn_by_seed_picture_and_epoch():
    seen = [varied(SQUARE, 14, Augment(), "a dog", (1, 2, epoch)) for epoch in range(60)]
    places = {(int(min(s[0, 0, 0], s[0, -1, 0])), bool(s[0, 0, 0] > s[0, -1, 0])) for s in seen}
    assert {mirrored for _, mirrored in places} == {False, True}
    assert {place for place, _ in places} == {int(SQUARE[y, x, 0]) for y in range(3) for x in range(3)}
    assert np.array_equal(seen[7], varied(SQUARE, 14, Augment(), "a dog", (1, 2, 7)))
    for mirrored in (s for s in seen if s[0, 0, 0] > s[0, -1, 0]):
        assert np.array_equal(np.sort(mirrored, 1), mirrored[:, ::-1])


@pytest.mark.parametrize("caption", ["a dog left of a cat", "Turning RIGHT.", "the left-hand door", "the leftmost cup"])
def test_no_picture_is_mirrored_whose_caption_tells_sides(caption):
    assert tells_sides(caption)
    seen = [varied(SQUARE, 16, Augment(), caption, (1, 2, epoch)) for epoch in range(40)]
    assert all(np.array_equal(each, SQUARE) for each in seen)


@pytest.mark.parametrize("caption", ["a dog", "leftovers on a plate", "brightly lit"])
def test_other_captions_tell_no_sides(caption):
    assert not tells_sides(caption)


def test_without_variation_it_is_the_middle():
    assert np.array_equal(varied(SQUARE, 14, Augment(False, False), "a dog", (1, 2, 3)), centre(SQUARE, 14))
