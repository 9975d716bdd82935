"""Squares, their middles, and what training varies."""

from __future__ import annotations

import numpy as np
import pytest

from loopos.vision.data import draws
from loopos.vision.data.framing import Augment, centre, kept_side, tells_sides, varied, warped

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


def test_a_warp_is_the_picture_through_a_plane_map():
    pictures = np.random.default_rng(1).integers(0, 256, (3, 12, 12, 3), np.uint8)
    places = [(5, picture, 2) for picture in range(3)]
    found = warped(pictures, 0.2, places)
    assert found.dtype == np.uint8
    for picture, place, seen in zip(pictures, places, found, strict=True):
        most = round(0.2 * 1024)
        yy, yx, xy, xx, ty, tx = ((move - most) / 1024 for move in draws.below([2 * most + 1] * 6, draws.WARP, *place))
        for row, column in [(0, 0), (0, 11), (11, 0), (5, 6), (8, 3), (2, 9)]:
            v, w = (row - 5.5) / 12, (column - 5.5) / 12
            y = min(max(12 * ((1 + yy) * v + yx * w + ty) + 5.5, 0), 11)
            x = min(max(12 * (xy * v + (1 + xx) * w + tx) + 5.5, 0), 11)
            near = [
                (1 - abs(y - at)) * (1 - abs(x - across)) * picture[at, across].astype(float)
                for at in range(12)
                for across in range(12)
                if abs(y - at) < 1 and abs(x - across) < 1
            ]
            assert abs(seen[row, column] - np.sum(near, 0)).max() <= 0.5 + 1e-9


def test_a_warp_is_drawn_by_seed_picture_and_epoch_and_goes_both_ways():
    bar = np.zeros((1, 16, 16, 1), np.uint8)
    bar[:, 6:10, 6:10] = 255
    seen = [warped(bar, 0.125, [(1, 2, epoch)])[0, ..., 0].astype(float) for epoch in range(80)]
    assert np.array_equal(warped(bar, 0.125, [(1, 2, 7)])[0, ..., 0], seen[7])
    assert len({each.tobytes() for each in seen}) == 80
    places = [((each.sum(1) @ np.arange(16)) / each.sum(), (each.sum(0) @ np.arange(16)) / each.sum()) for each in seen]
    for axis in zip(*places, strict=True):  # up to an eighth of 16 pixels of a picture a seventh larger, both ways
        assert 7.5 - 2.8 <= min(axis) < 6.2
        assert 8.8 < max(axis) <= 7.5 + 2.8
    sizes = [each.sum() / 255 for each in seen]
    assert min(sizes) < 14
    assert max(sizes) > 18


def test_a_warp_of_nothing_and_one_of_a_plain_picture_change_nothing():
    pictures = np.random.default_rng(1).integers(0, 256, (2, 9, 9, 3), np.uint8)
    assert np.array_equal(warped(pictures, 0.0, [(1, 2, 3), (1, 3, 3)]), pictures)
    plain = np.full((2, 9, 9, 3), 201, np.uint8)
    assert np.array_equal(warped(plain, 0.3, [(1, 2, 3), (1, 3, 3)]), plain)
