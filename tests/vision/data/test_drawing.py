"""Shapes in integers."""

from __future__ import annotations

import numpy as np
import pytest

from loopos.vision.data.drawing import UNITS, draw

WHITE = (255, 255, 255)


@pytest.mark.parametrize(("shape", "area"), [("circle", np.pi), ("square", 49 / 16), ("triangle", 2.0)])
def test_a_shape_covers_its_area_around_its_middle(shape, area):
    image = np.zeros((128, 128, 3), np.int64)
    draw(image, shape, WHITE, 400, 600, 208)
    covered = image[..., 0].sum() / 255
    assert covered == pytest.approx(area * (208 * 128 / UNITS) ** 2, rel=0.005)
    columns = (image[..., 0].sum(0) * (np.arange(128) + 0.5)).sum() / image[..., 0].sum()
    assert columns * UNITS / 128 == pytest.approx(400, abs=1)
    rows = np.flatnonzero(image[..., 0].any(1))
    reach = 182 if shape == "square" else 208
    assert rows[0] * 8 <= 600 - reach < (rows[0] + 1) * 8
    assert rows[-1] * 8 < 600 + reach <= (rows[-1] + 1) * 8


def test_a_triangle_points_up_and_edges_are_mixed_by_what_is_covered():
    image = np.full((64, 64, 3), 100, np.int64)
    draw(image, "triangle", (20, 200, 60), 512, 512, 256)
    widths = (image[..., 1] > 150).sum(1)
    assert widths[20] < widths[30] < widths[45]
    assert image[60, 60].tolist() == [100, 100, 100]
    assert image[40, 32].tolist() == [20, 200, 60]
    assert len(np.unique(image[..., 1])) > 3


def test_a_pixel_that_is_covered_in_part():
    image = np.zeros((2, 2, 3), np.int64)
    draw(image, "square", WHITE, 512, 512, 500)  # reaches 437: 3 of 4 samples each way
    assert image[0, 0].tolist() == [(9 * 255 + 8) // 16] * 3


def test_beyond_the_edge_is_cut_off_and_outside_is_nothing():
    image = np.zeros((32, 32, 3), np.int64)
    draw(image, "circle", WHITE, 5000, 512, 100)
    draw(image, "circle", WHITE, -200, 512, 100)
    assert not image.any()
    draw(image, "circle", WHITE, 0, 0, 256)
    assert image[0, 0].tolist() == [255, 255, 255]
    assert image[..., 0].sum() / 255 == pytest.approx(np.pi * 8**2 / 4, rel=0.05)


def test_an_unknown_shape_is_refused():
    with pytest.raises(ValueError, match="expected circle, square or triangle, got 'star'"):
        draw(np.zeros((8, 8, 3), np.int64), "star", WHITE, 512, 512, 100)
