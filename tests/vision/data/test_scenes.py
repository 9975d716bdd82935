"""The grammar of shapes: every caption is read back as its scene, and nothing else is a caption."""

from __future__ import annotations

import itertools

import pytest

from loopos.vision import Scene, parse_caption
from loopos.vision.data.scenes import CAPTIONS, THINGS


@pytest.mark.parametrize("kind", CAPTIONS)
def test_each_caption_tells_of_its_scene_and_of_no_other(kind):
    count = CAPTIONS[kind][0].count("{")
    canonical = {}
    for things in itertools.product(THINGS[:7], repeat=count):
        scene = Scene(kind, things)
        for caption in scene.captions():
            assert parse_caption(caption) == scene
        canonical[scene.captions()[0]] = scene
    assert len(canonical) == 7**count


def test_captions_are_true_of_shapes_that_stand_from_left_to_right_and_down():
    red, blue, green = ("red", "circle"), ("blue", "square"), ("green", "triangle")
    said = {kind: Scene(kind, (red, blue, green)[: forms[0].count("{")]).captions() for kind, forms in CAPTIONS.items()}
    assert said == {
        "single": ("a red circle", "there is a red circle"),
        "row of two": ("a red circle left of a blue square", "a blue square right of a red circle"),
        "column of two": ("a red circle above a blue square", "a blue square below a red circle"),
        "row of three": (
            "a red circle left of a blue square left of a green triangle",
            "a green triangle right of a blue square right of a red circle",
        ),
        "column of three": (
            "a red circle above a blue square above a green triangle",
            "a green triangle below a blue square below a red circle",
        ),
        "two above one": (
            "a red circle left of a blue square, both above a green triangle",
            "a green triangle below both a red circle and a blue square",
        ),
    }


def test_no_sentence_of_one_kind_is_one_of_another():
    things = (("red", "circle"), ("blue", "square"), ("green", "triangle"))
    said = [c for kind, forms in CAPTIONS.items() for c in Scene(kind, things[: forms[0].count("{")]).captions()]
    assert len(set(said)) == len(said)


def test_case_spaces_and_a_full_stop_do_not_matter():
    scene = Scene("two above one", (("red", "circle"), ("blue", "square"), ("green", "triangle")))
    assert parse_caption(" A red circle left  of a Blue square , both above a green triangle .") == scene


@pytest.mark.parametrize(
    "caption",
    [
        "",
        "a red",
        "a red circle left of",
        "a red circle left a blue square",
        "a pink circle",
        "a red circle circle",
        "a red circle left of a blue square both above a green triangle",
        "a red circle\x00",
        "the red circle",
    ],
)
def test_other_sentences_are_none(caption):
    assert parse_caption(caption) is None
