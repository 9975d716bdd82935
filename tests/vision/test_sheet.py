"""The picture of pictures beside their captions."""

import io
import sys

import numpy as np
import pytest

from loopos.vision.sheet import COLUMNS, MARGIN, SIDE, Shown, sheet, write_sheet

Image = pytest.importorskip("PIL.Image", reason="Pillow draws (extra [vision])")
RED = np.full((8, 8, 3), (200, 0, 0), np.uint8)


def opened(pictures):
    return np.asarray(Image.open(io.BytesIO(sheet(pictures))).convert("RGB"))


def test_pictures_stand_in_columns_with_their_captions():
    page = opened([Shown(RED, "a red square")] * (COLUMNS + 1))
    assert page.shape[0] == 2 * (SIDE + MARGIN) + MARGIN
    assert (page[MARGIN + SIDE // 2, MARGIN + SIDE // 2] == (200, 0, 0)).all()
    assert (page[:, MARGIN + SIDE + MARGIN :] < 128).any()  # letters


def test_a_wrong_caption_is_red_and_has_the_truth_below():
    right, wrong = (
        opened([Shown(RED, "a red square", "a red square", True)]),
        opened([Shown(RED, "a red square", "a blue circle", False)]),
    )
    beside = np.s_[:, MARGIN + SIDE + MARGIN :]
    green, red = (20, 110, 50), (170, 30, 30)

    def has(page, colour):
        return (np.abs(page[beside].astype(int) - colour).max(-1) < 60).any()  # letters have soft edges

    assert has(right, green)
    assert not has(right, red)
    assert has(wrong, red)
    assert (wrong[beside] < 250).any(-1).sum() > (right[beside] < 250).any(-1).sum()


def test_a_file_is_written_and_letters_that_the_font_lacks_do_no_harm(tmp_path):
    write_sheet(tmp_path / "a.png", [Shown(RED, "ein Schild 禁止 " * 40)])
    with Image.open(tmp_path / "a.png") as written:
        assert written.size[0] > SIDE


def test_without_pillow_the_extra_is_named(monkeypatch):
    monkeypatch.setitem(sys.modules, "PIL", None)
    with pytest.raises(ImportError, match=r"pip install 'loopos\[vision\]'"):
        sheet([Shown(RED, "a red square")])
