"""Curves and heat maps: every number in its place, every label readable."""

from __future__ import annotations

import itertools
import math
import re
from xml.etree import ElementTree

import pytest

from loopos.health.report.charts import chart, heat_map, picture, ticks


def test_curves_are_drawn_where_the_numbers_are():
    html = chart("t", {"a": [(0, 0.0), (1, 10.0), (2, None), (3, 5.0), (4, 5.0)]})
    lines = re.findall(r'points="([^"]+)"', html)
    first, second = [[tuple(map(float, point.split(","))) for point in line.split()] for line in lines]
    assert len(first) == len(second) == 2  # broken at the bad number
    assert first[0][0] < first[1][0] < second[0][0]
    assert first[1][1] < second[0][1] < first[0][1]  # 10 above 5 above 0
    assert second[0][1] == second[1][1]
    assert html.count('class="bad"') == 1


def test_a_logarithmic_axis_is_even_in_powers():
    html = chart("t", {"a": [(0, 1.0), (1, 10.0), (2, 100.0), (3, 0.0)]}, logarithmic=True)
    (line,) = re.findall(r'points="([^"]+)"', html)
    heights = [float(point.split(",")[1]) for point in line.split()]
    assert heights[0] - heights[1] == pytest.approx(heights[1] - heights[2], abs=0.11)
    assert html.count('class="bad"') == 1  # 0 has no logarithm


def test_long_curves_keep_their_extremes():
    points = [(t, 1.0 if t != 7777 else 99.0) for t in range(20_000)]
    html = chart("t", {"a": points})
    heights = [float(point.split(",")[1]) for point in re.findall(r'points="([^"]+)"', html)[0].split()]
    assert len(heights) < 2500
    assert min(heights) < 30 < 150 < max(heights)


def test_a_heat_map_shows_zero_nan_small_and_large():
    rows = {"a": [(0, 1e-6), (1, 1e-3), (2, 1.0), (3, 0.0), (4, None)]}
    fills = re.findall(r'fill="(#\w+)"', heat_map("t", rows, 1e-6, 1.0))
    assert fills == ["#2563a8", "#f4f0e8", "#be3228", "#9a9a9a", "#000000"]
    assert heat_map("t", {}, 1e-6, 1.0) == ""


@pytest.mark.parametrize(("low", "high"), [(0, 1), (1.5, 4.2), (-1e300, 1e300), (5, 5.000001), (0, 2000)])
def test_ticks_are_round_and_inside(low, high):
    found = ticks(low, high, False)
    assert 2 <= len(found) <= 8
    assert all(low - 1e-9 * abs(low) <= tick <= high * (1 + 1e-9) for tick in found)


def labels(html):
    """(x, y, text) of everything written in a chart."""
    found = re.findall(r'<text x="([\d.]+)" y="([\d.]+)"[^>]*>([^<]*)<', html)
    return [(float(x), float(y), text) for x, y, text in found]


def test_names_of_curves_have_their_colours_and_stand_above_the_frame():
    html = chart("t", {"train": [(1, 3.0), (9, 1.0)], "eval": [(1, 3.0), (9, None)]})
    names = re.findall(r'class="key f(\d)" style="fill: (#\w+)">(\w+)<', html)
    assert names == [("0", "#2563a8", "train"), ("1", "#c2571a", "eval")]
    lowest = max(y for _, y, text in labels(html) if text in ("train", "eval"))
    highest = min(
        float(point.split(",")[1]) for line in re.findall(r'points="([^"]+)"', html) for point in line.split()
    )
    (bad,) = re.findall(r'class="bad" cx="[\d.]+" cy="([\d.]+)"', html)
    assert lowest + 2 < float(bad) - 3 < highest  # the text, the red dot of radius 3, the curve


@pytest.mark.parametrize("last", [1, 2, 3, 120, 5000])
def test_steps_are_whole_and_their_last_label_has_room(last):
    html = chart("t", {"a": [(t, float(t)) for t in range(1, last + 1)]})
    steps = [(x, text) for x, y, text in labels(html) if y > 230 and text != "step"]
    assert steps
    assert all(float(text).is_integer() for _, text in steps)
    assert all(x + 3.2 * len(text) < 860 for x, text in steps)  # 11 pixels high, half as wide, centred


@pytest.mark.parametrize(("low", "high"), [(1.259, 2.21), (0.3, 4.1), (0.02, 900), (1e-7, 1e4)])
def test_a_logarithmic_axis_is_labelled_with_round_numbers(low, high):
    html = chart("t", {"a": [(1, low), (2, high)]}, logarithmic=True)
    values = [float(text.replace(",", "")) for x, _, text in labels(html) if x < 60 and text != "step"]
    assert len(values) >= 3
    assert all(float(f"{value:.1e}") == value for value in values)  # at most two digits


@pytest.mark.parametrize("steps", [[1], [1, 5, 10, 15, 20], list(range(1, 1000)), [1, 2, 900]])
def test_a_heat_map_has_no_gaps(steps):
    html = heat_map("t", {"a": [(t, 1e-3) for t in steps]}, 1e-6, 1.0)
    boxes = sorted((float(x), float(w)) for x, w in re.findall(r'<rect x="([\d.]+)" y="\d+" width="([\d.]+)"', html))
    assert boxes[0][0] == 200
    for (x, width), (following, _) in itertools.pairwise(boxes):
        assert 0 <= x + width - following < 0.5
    assert sum(boxes[-1]) == pytest.approx(832.3, abs=0.1)


def test_a_picture_is_a_file_of_its_own_with_every_chart_and_its_title():
    points = {"a": [(0, 1.0), (1, 2.0)]}
    svg = picture([chart("one & two", points, x_name="layer"), chart("three", points)])
    root = ElementTree.fromstring(svg)
    assert root.tag == "{http://www.w3.org/2000/svg}svg"
    nested = [each for each in root if each.tag.endswith("svg")]
    assert [float(each.get("y")) for each in nested] == [32.0, 314.0]
    assert float(root.get("height")) == 564
    words = [each.text for each in root.iter() if each.tag.endswith("text")]
    assert [words.count(each) for each in ("one & two", "three", "layer", "step")] == [1, 1, 1, 1]


def test_bands_other_axes_and_colours_that_stay():
    curves = {"a": [], "b": [(0.1, 1.0), (10.0, 3.0)], "c": [(0.1, 2.0), (1.0, 2.0)]}
    svg = chart("t", curves, bands={"b": [(0.1, 0.5, 1.5), (10.0, 2.0, 4.0)]}, x_name="rate", x_logarithmic=True)
    assert svg.count("<polygon") == 1
    assert ">rate</text>" in svg
    assert ">0.1</text>" in svg
    assert ">10</text>" in svg
    lines = re.findall(r'class="(c\d)"[^>]*points="([^"]+)"', svg)
    assert [name for name, _ in lines] == ["c1", "c2"]  # a is not drawn and keeps its colour
    across = [float(point.split(",")[0]) for point in lines[0][1].split()]
    middle = float(lines[1][1].split()[1].split(",")[0])
    assert middle == pytest.approx(sum(across) / 2, abs=0.1)  # 1 lies half-way between 0.1 and 10
    assert ">a</text>" not in svg


def test_a_band_without_a_height_is_left_out_on_a_logarithmic_axis():
    svg = chart("t", {"a": [(1, 1.0), (2, 2.0)]}, bands={"a": [(1, 0.0, 2.0), (2, math.inf, 2.0)]}, logarithmic=True)
    assert "<polygon" not in svg
