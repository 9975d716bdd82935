"""Pictures of shapes: what a caption says is what stands there, and the bits are kept."""

from __future__ import annotations

import hashlib
from collections import Counter

import numpy as np
import pytest

from loopos.vision import Shapes
from loopos.vision.data.scenes import CAPTIONS, COLOURS, THINGS


def digest(shapes, count):
    joined = hashlib.sha256()
    for index in range(count):
        joined.update(shapes.image(index).tobytes() + shapes.captions(index)[0].encode())
    return joined.hexdigest()[:16]


def test_the_bits_are_kept():
    assert digest(Shapes(100, 1337), 100) == "55564aca42f72875"
    assert digest(Shapes(20, 7, image_size=96, unseen=3), 20) == "86605ea6f682062a"


def test_a_picture_depends_on_its_seed_and_number_alone():
    shapes = Shapes(30, 5)
    late, early = shapes.image(7), Shapes(8, 5).image(7)
    assert late.dtype == np.uint8
    assert late.shape == (64, 64, 3)
    assert np.array_equal(late, early)
    assert shapes.captions(7) == Shapes(8, 5).captions(7)
    assert not np.array_equal(late, Shapes(8, 6).image(7))
    assert not np.array_equal(late, shapes.image(6))


def blobs(image, scene):
    """(x, y, pixels) of each shape of a scene, found by colour: pixels nearest to its colour, split where a row or a
    column without any stands between two shapes of one colour."""
    colours = np.array(list(COLOURS.values()))
    distance = np.abs(image[..., None, :].astype(int) - colours).max(-1)
    ground = np.abs(image.astype(int) - np.median(image, (0, 1))).max(-1)
    nearest = np.where((distance.min(-1) <= 24) & (ground > 12), distance.argmin(-1), -1)
    found = []
    for colour in dict.fromkeys(colour for colour, _ in scene.things):
        rows, columns = np.nonzero(nearest == list(COLOURS).index(colour))
        found += split(colour, columns, rows)
    return found


def split(colour, x, y):
    for at in (x, y):
        here = np.unique(at)
        gaps = np.flatnonzero(np.diff(here) > 1)
        if len(gaps):
            low = at <= here[gaps[0]]
            return split(colour, x[low], y[low]) + split(colour, x[~low], y[~low])
    return [(colour, x.mean(), y.mean(), len(x), (np.ptp(x) + 1) * (np.ptp(y) + 1))] if len(x) >= 12 else []


FILLED = {"circle": (0.7, 0.84), "square": (0.86, 1.0), "triangle": (0.36, 0.66)}  # of the box around it


def test_what_a_caption_says_is_what_stands_in_the_picture():
    shapes, kinds = Shapes(300, 11, image_size=128), Counter()
    for index in range(300):
        scene = shapes.scene(index)
        kinds[scene.kind] += 1
        found = blobs(shapes.image(index), scene)
        assert Counter(blob[0] for blob in found) == Counter(colour for colour, _ in scene.things), index
        by_x, by_y = sorted(found, key=lambda blob: blob[1]), sorted(found, key=lambda blob: blob[2])
        if scene.kind.startswith("column"):
            ordered, apart = by_y, np.diff([blob[2] for blob in by_y])
        elif scene.kind == "two above one":
            ordered = sorted(by_y[:2], key=lambda blob: blob[1]) + by_y[2:]
            apart = np.array([by_y[2][2] - by_y[1][2], ordered[1][1] - ordered[0][1]])
        else:
            ordered, apart = by_x, np.diff([blob[1] for blob in by_x])
        assert [blob[0] for blob in ordered] == [colour for colour, _ in scene.things], index
        assert (apart > 24).all(), index
        for (_, shape), blob in zip(scene.things, ordered, strict=True):
            low, high = FILLED[shape]
            assert low <= blob[3] / blob[4] <= high, (index, shape)
    assert set(kinds) == set(CAPTIONS)


def test_says_knows_the_other_ways_and_no_other_scene():
    shapes = Shapes(200, captions=2)
    for index in range(200):
        captions = shapes.captions(index)
        assert len(set(captions)) == 2
        assert all(shapes.says(index, caption) for caption in captions)
    assert Shapes(200).captions(0) == shapes.captions(0)[:1]
    others = [index for index in range(1, 200) if shapes.scene(index) != shapes.scene(0)]
    assert not any(shapes.says(index, shapes.captions(0)[0]) for index in others)
    assert not shapes.says(0, "a picture")


def test_parts_share_no_picture_and_cover_all():
    for shapes in (Shapes(205), Shapes(205, unseen=2)):
        numbers = [shapes.indices(part) for part in shapes.parts]
        assert sorted(np.concatenate(numbers)) == list(range(205))
    held_out = Shapes(2000)
    kinds = {part: {held_out.scene(int(i)).kind for i in held_out.indices(part)} for part in held_out.parts}
    assert kinds["test"] == kinds["train"] == set(CAPTIONS)


def test_unseen_kinds_are_in_their_part_alone():
    shapes = Shapes(600, unseen=3)
    assert len(shapes.unseen) == 3
    assert set(shapes.unseen) < set(THINGS)
    for part in shapes.parts:
        has = [bool(set(shapes.scene(int(i)).things) & set(shapes.unseen)) for i in shapes.indices(part)]
        assert has == [part == "unseen"] * len(has)
    assert "unseen" not in Shapes(10).parts


@pytest.mark.parametrize(
    ("arguments", "error", "says"),
    [
        ({"n": 0}, ValueError, "n must be an integer of at least 1, got 0"),
        ({"n": 2.0}, TypeError, "n must be an integer"),
        ({"seed": -1}, ValueError, "seed must be an integer from 0 to"),
        ({"image_size": 8}, ValueError, "image_size must be an integer from 16 to 1024, got 8"),
        ({"captions": 3}, ValueError, "captions must be an integer from 1 to 2, got 3"),
        ({"unseen": 15}, ValueError, "unseen must be an integer from 0 to 14, got 15"),
    ],
)
def test_refusals(arguments, error, says):
    with pytest.raises(error, match=says):
        Shapes(**arguments)
