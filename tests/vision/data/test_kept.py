"""Squares decoded once: memory, file and neither give the same pictures and the same list of broken ones."""

from __future__ import annotations

import numpy as np
import pytest

from loopos.vision.data.decoding import PictureError
from loopos.vision.data.kept import Keeping, keep


def square(number):
    if number == 3:
        raise PictureError("3.jpg", "the file is empty (0 bytes)")
    return np.full((4, 4, 3), number, np.uint8)


class Counted:
    def __init__(self):
        self.calls = 0

    def __call__(self, number):
        self.calls += 1
        return square(number)


def ways(folder):
    return {"memory": Keeping(), "file": Keeping(cache=folder), "nowhere": Keeping(memory=10)}


@pytest.mark.parametrize("where", ["memory", "file", "nowhere"])
def test_each_way_gives_the_same(where, tmp_path):
    kept = keep(6, 4, square, {"kind": "x"}, ways(tmp_path)[where])
    assert kept.where == where
    assert kept.broken == {3: "the file is empty (0 bytes)"}
    for number in (0, 5, 1):
        assert np.array_equal(kept.square(number), square(number))


def test_a_file_is_made_once_and_again_when_it_is_not_whole(tmp_path):
    keeping, counted = Keeping(cache=tmp_path / "a" / "b"), Counted()
    keep(6, 4, counted, {"kind": "x"}, keeping)
    assert counted.calls == 6
    assert keep(6, 4, counted, {"kind": "x"}, keeping).broken == {3: "the file is empty (0 bytes)"}
    assert counted.calls == 6
    keep(6, 4, counted, {"kind": "y"}, keeping)  # another set
    assert counted.calls == 12
    for path in (tmp_path / "a" / "b").iterdir():
        path.write_bytes(path.read_bytes()[:-7])
    kept = keep(6, 4, counted, {"kind": "x"}, keeping)
    assert counted.calls == 18
    assert np.array_equal(kept.square(5), square(5))
    assert not list((tmp_path / "a" / "b").glob("*.tmp.*"))
    for path in (tmp_path / "a" / "b").glob("*.npy"):
        np.save(path, np.zeros((6, 4, 4), np.uint8))  # whole, and another array
    assert np.array_equal(keep(6, 4, counted, {"kind": "x"}, keeping).square(5), square(5))
    assert counted.calls == 24


def test_a_stop_on_the_way_leaves_nothing_that_looks_whole(tmp_path):
    def stopped(number):
        if number == 4:
            raise KeyboardInterrupt
        return square(number)

    with pytest.raises(KeyboardInterrupt):
        keep(6, 4, stopped, {}, Keeping(cache=tmp_path))
    assert list(tmp_path.iterdir()) == []


def test_a_bar_is_shown_what_is_done():
    seen = []
    keep(6, 4, square, {}, Keeping(shown=lambda made, total: (seen.append(total), made)[1]))
    assert seen == [6]


def test_a_folder_that_cannot_be_written_is_said(tmp_path):
    (tmp_path / "file").write_text("")
    with pytest.raises(OSError, match="cannot create the folder"):
        keep(6, 4, square, {}, Keeping(cache=tmp_path / "file"))
