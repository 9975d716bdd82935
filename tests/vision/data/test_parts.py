"""Parts of a set."""

from __future__ import annotations

import numpy as np
import pytest

from loopos.vision import Shapes


def test_a_part_is_the_pictures_of_its_numbers():
    shapes = Shapes(50, 3)
    held_out = shapes.part("test")
    assert len(held_out) == 5
    assert held_out.numbers.tolist() == [9, 19, 29, 39, 49]
    assert np.array_equal(held_out.image(1), shapes.image(19))
    assert held_out.captions(1) == shapes.captions(19)
    assert held_out.name(1) == shapes.name(19)
    assert held_out.fingerprint() == shapes.fingerprint() | {"part": "test", "pictures": 5}
    assert "5 pictures: test" in repr(held_out)


def test_another_part_and_a_picture_outside_are_refused():
    shapes = Shapes(50, 3)
    with pytest.raises(ValueError, match="part must be one of 'train', 'valid', 'test', got 'dev'"):
        shapes.part("dev")
    with pytest.raises(IndexError, match="expected a picture from 0 to 49, got 50"):
        shapes.image(50)
    with pytest.raises(IndexError, match="got -1"):
        shapes.captions(-1)
    with pytest.raises(TypeError, match="index must be an integer"):
        shapes.scene(1.0)
