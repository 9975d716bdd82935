"""What is left out is counted, with examples."""

from __future__ import annotations

import json

from loopos.vision.data.left_out import LeftOut


def test_counts_and_examples():
    left_out = LeftOut()
    assert (str(left_out), len(left_out)) == ("", 0)
    for number in range(7):
        left_out.add("pictures without a caption", f"{number}.jpg")
    left_out.add("captions without a word", "a.jpg")
    assert len(left_out) == 8
    assert str(left_out) == (
        "7 pictures without a caption: 0.jpg, 1.jpg, 2.jpg, 3.jpg, 4.jpg, ...\n1 captions without a word: a.jpg"
    )
    assert json.loads(json.dumps(left_out.to_dict()))["captions without a word"] == {"count": 1, "examples": ["a.jpg"]}
