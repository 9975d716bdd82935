"""Caption files, in the layouts in which they are found."""

from __future__ import annotations

import json

import pytest

from loopos.vision.data.captions import EMPTY, HELD_OUT, MENDED, UNREADABLE, read_captions
from loopos.vision.data.left_out import LeftOut


@pytest.fixture
def read(tmp_path):
    def go(name, text):
        left_out = LeftOut()
        (tmp_path / name).write_bytes(text if isinstance(text, bytes) else text.encode())
        return [tuple(row) for row in read_captions(tmp_path / name, left_out)], left_out

    return go


def test_captions_txt_of_flickr8k(read):
    text = (
        "image,caption\r\n"
        "1_a.jpg,A child in a pink dress .\r\n"
        '1_a.jpg,"A girl , in a ""pink"" dress , climbs ."\r\n'
        '2_b.jpg,A man says "hello" , twice\r\n'
        "2_b.jpg,One , two , three\r\n"
        '2_b.jpg,"An open quote , here\r\n'
        "\r\n"
        "no comma\r\n"
        "3_c.jpg, \r\n"
    )
    rows, left_out = read("captions.txt", text)
    assert rows == [
        ("1_a.jpg", "A child in a pink dress .", None),
        ("1_a.jpg", 'A girl , in a "pink" dress , climbs .', None),
        ("2_b.jpg", 'A man says "hello" , twice', None),
        ("2_b.jpg", "One , two , three", None),
        ("2_b.jpg", '"An open quote , here', None),
    ]
    assert left_out.to_dict() == {
        UNREADABLE: {"count": 1, "examples": ["captions.txt line 8"]},
        EMPTY: {"count": 1, "examples": ["3_c.jpg"]},
    }


def test_token_file_of_flickr8k(read):
    text = "1_a.jpg#0\tA child .\n1_a.jpg#1\tA girl\ton stairs .\n2258277193_586949ec62.jpg.1#0\tPeople .\nno tab\n"
    rows, left_out = read("Flickr8k.token.txt", text)
    assert rows[1] == ("1_a.jpg", "A girl on stairs .", None)
    assert rows[2][0] == "2258277193_586949ec62.jpg.1"
    assert left_out.counts == {UNREADABLE: 1}


def test_results_csv_of_flickr30k_with_its_famous_row(read):
    text = (
        "image_name| comment_number| comment\n"
        "1000092795.jpg| 0| Two young guys with shaggy hair , one | two .\n"
        "2199200615.jpg| 4   A dog runs across the grass .\n"
        "2199200615.jpg\n"
    )
    rows, left_out = read("results.csv", text)
    assert rows == [
        ("1000092795.jpg", "Two young guys with shaggy hair , one | two .", None),
        ("2199200615.jpg", "A dog runs across the grass .", None),
    ]
    assert left_out.to_dict()[MENDED] == {"count": 1, "examples": ["results.csv line 3"]}
    assert left_out.counts[UNREADABLE] == 1


def test_newer_captions_of_flickr30k_and_a_byte_order_mark(read):
    text = '\ufeffimage_name,comment_number,comment\n1.jpg,0,"Two men , one hat"\n1.jpg,1,Two men\u2028here\n'
    assert read("captions.txt", text)[0] == [("1.jpg", "Two men , one hat", None), ("1.jpg", "Two men here", None)]


def test_coco_and_karpathy(read):
    coco = {
        "images": [{"id": 7, "file_name": "000000000007.jpg"}],
        "annotations": [{"image_id": 7, "id": 1, "caption": "A cup.\n"}, {"image_id": 8, "id": 2, "caption": "Gone"}],
    }
    assert read("captions_train2017.json", json.dumps(coco))[0] == [
        ("000000000007.jpg", "A cup.", "train"),
        ("image_id 8", "Gone", "train"),
    ]
    assert read("captions_val2017.json", json.dumps(coco))[0][0][2] == HELD_OUT
    image = {"filename": "a.jpg", "split": "restval", "sentences": [{"raw": "A cup ."}, {"raw": "A mug ."}]}
    rows, _ = read("dataset_flickr8k.json", json.dumps({"images": [image, image | {"split": "val"}]}))
    assert [row[1:] for row in rows] == [
        ("A cup .", "train"),
        ("A mug .", "train"),
        ("A cup .", "valid"),
        ("A mug .", "valid"),
    ]


@pytest.mark.parametrize(
    ("name", "text", "says"),
    [
        ("captions.txt", "", "the file is empty; expected a header such as image,caption"),
        ("captions.txt", "a,b\n1,2\n", "its first line is 'a,b'; expected a header"),
        ("captions.txt", "image,caption\nnothing\n", "none of its lines is a caption"),
        ("captions.txt", b"image,caption\n1.jpg,caf\xe9\n", "byte 23 is not UTF-8"),
        ("captions_x.json", "{", "not valid JSON"),
        ("captions_x.json", "[" * 100_000, "not valid JSON"),
        ("captions_x.json", "{}", "no captions are found where they should be"),
        ("captions_x.json", '{"images": [1]}', "no captions are found"),
        ("captions_x.json", "3", "no captions are found"),
    ],
)
def test_refusals(read, name, text, says):
    with pytest.raises(ValueError, match=says):
        read(name, text)
