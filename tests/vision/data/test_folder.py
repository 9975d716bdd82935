"""Folders of pictures and captions, written here in the layouts in which they are found."""

from __future__ import annotations

import json

import numpy as np
import pytest

from loopos.vision import Augment, CaptionBatches, CaptionFolder, CaptionHeldOut, WordVocabulary

pytest.importorskip("PIL", reason="needs the extra [vision]")
from PIL import Image

NAMES = [f"{number}_{number * 7919 % 997:03x}.jpg" for number in range(1000, 1040)]


def picture(path, number, size=(48, 40)):
    path.parent.mkdir(parents=True, exist_ok=True)
    Image.new("RGB", size, (number * 6 % 256, 40, 90)).save(path, quality=95)


@pytest.fixture
def flickr8k(tmp_path):
    """Images/ and captions.txt, with what is found in practice: a missing picture, one without captions, a broken one,
    one of another case, and a file of the system."""
    root = tmp_path / "flickr8k"
    for number, name in enumerate(NAMES):
        picture(root / "Images" / name, number)
    lines = [f'{name},"A dog , number {n} , way {w} ."' for n, name in enumerate(NAMES) for w in range(5)]
    lines += ["gone.jpg,A cat .", "CASE.JPG,A loud dog .", "cut.jpg,A cut dog .", "empty.jpg,No dog ."]
    (root / "captions.txt").write_text("image,caption\n" + "\n".join(lines) + "\n")
    picture(root / "Images" / "case.jpg", 3)
    picture(root / "Images" / "alone.jpg", 4)
    picture(root / "Images" / "cut.jpg", 5, (300, 300))
    (root / "Images" / "cut.jpg").write_bytes((root / "Images" / "cut.jpg").read_bytes()[:700])
    (root / "Images" / "empty.jpg").write_bytes(b"")
    (root / "Images" / "._case.jpg").write_bytes(b"\x00\x05\x16\x07")
    return root


def test_a_folder_of_flickr8k_and_what_is_left_out(flickr8k):
    folder = CaptionFolder(flickr8k, image_size=32)
    assert len(folder) == 43
    assert folder.captions(0)[3] == "A dog , number 0 , way 3 ."
    assert [folder.name(n) for n in range(40)] == NAMES
    assert folder.image(3).shape == (40, 48, 3)
    folder.kept(32)
    folder.kept(36)
    told = folder.left_out.to_dict()
    assert told["names with captions and without a picture"] == {"count": 1, "examples": ["gone.jpg"]}
    assert told["pictures without a caption"] == {"count": 1, "examples": ["alone.jpg"]}
    assert told["pictures found under a name of another case"] == {"count": 1, "examples": ["CASE.JPG"]}
    broken = told["pictures that cannot be decoded"]
    assert broken["count"] == 2
    assert broken["examples"][0].startswith("cut.jpg: cannot be read: image file is truncated")
    assert broken["examples"][1] == "empty.jpg: the file is empty (0 bytes)"
    assert "1 names with captions and without a picture: gone.jpg" in str(folder.left_out)
    json.dumps(told)


def test_parts_are_by_picture_and_stay_when_others_go(flickr8k):
    folder = CaptionFolder(flickr8k)
    parts = {folder.name(int(n)): part for part in folder.parts for n in folder.indices(part)}
    assert len(parts) == 43
    assert {part: list(parts.values()).count(part) for part in folder.parts} == {"train": 33, "valid": 3, "test": 7}
    some = CaptionFolder(flickr8k, subset=20)
    kept = {some.name(int(n)): part for part in some.parts for n in some.indices(part)}
    assert len(kept) == 20
    assert kept.items() <= parts.items()
    names = [
        [f.name(n) for n in range(20)] for f in (some, CaptionFolder(flickr8k, 20), CaptionFolder(flickr8k, 20, 1))
    ]
    assert names[0] == names[1] != names[2]


def test_the_lists_of_flickr8k_say_the_parts(tmp_path):
    root = tmp_path / "set"
    for number, name in enumerate(NAMES[:8]):
        picture(root / "Flicker8k_Dataset" / "Flicker8k_Dataset" / name, number)
    text = root / "Flickr8k_text"
    text.mkdir()
    (text / "Flickr8k.token.txt").write_text("".join(f"{n}#{w}\tA dog {w} .\n" for n in NAMES[:8] for w in range(5)))
    for kind, names in (("train", NAMES[:4]), ("dev", NAMES[4:6]), ("test", NAMES[6:7])):
        (text / f"Flickr_8k.{kind}Images.txt").write_text("\n".join(names) + "\n")
    folder = CaptionFolder(root)
    assert [[folder.name(int(n)) for n in folder.indices(p)] for p in folder.parts] == [
        NAMES[:4],
        NAMES[4:6],
        NAMES[6:7],
    ]
    assert folder.left_out.to_dict() == {"pictures that no list of parts names": {"count": 1, "examples": [NAMES[7]]}}
    assert len(folder.captions(0)) == 5
    (text / "Flickr_8k.devImages.txt").write_text(NAMES[0])
    with pytest.raises(ValueError, match=r"stands in two lists: (train and valid|valid and train)"):
        CaptionFolder(root)


def test_flickr30k(tmp_path):
    for number, name in enumerate(NAMES[:3]):
        picture(tmp_path / "flickr30k_images" / "flickr30k_images" / name, number)
    rows = [f"{name}| {w}| A dog , way {w} ." for name in NAMES[:3] for w in range(5)]
    rows[7] = f"{NAMES[1]}| 2   A dog runs ."
    (tmp_path / "flickr30k_images" / "results.csv").write_text(
        "image_name| comment_number| comment\n" + "\n".join(rows)
    )
    folder = CaptionFolder(tmp_path)
    assert len(folder) == 3
    assert folder.captions(1)[2] == "A dog runs ."
    assert folder.left_out.counts == {"rows without their second separator, mended": 1}


def test_coco(tmp_path):
    def write(part, names):
        for number, name in enumerate(names):
            picture(tmp_path / f"{part}2017" / name, number)
        told = {
            "images": [{"id": n, "file_name": name} for n, name in enumerate(names)],
            "annotations": [{"id": n, "image_id": n, "caption": f"A {part} dog."} for n, _ in enumerate(names)],
        }
        (tmp_path / "annotations").mkdir(exist_ok=True)
        (tmp_path / "annotations" / f"captions_{part}2017.json").write_text(json.dumps(told))

    write("val", NAMES[20:])
    alone = CaptionFolder(tmp_path)
    assert len(alone.indices("train")) > 10
    write("train", NAMES[:20])
    folder = CaptionFolder(tmp_path)
    assert [folder.name(int(n)) for n in folder.indices("train")] == NAMES[:20]
    assert min(len(folder.indices("valid")), len(folder.indices("test"))) >= 5
    assert folder.captions(int(folder.indices("test")[0])) == ("A val dog.",)
    one = CaptionFolder(tmp_path / "annotations" / "captions_train2017.json")
    assert len(one) == 20


def test_names_with_folders_and_names_that_two_files_have(tmp_path):
    picture(tmp_path / "a" / "x.jpg", 1)
    picture(tmp_path / "b" / "x.jpg", 2)
    (tmp_path / "captions.txt").write_text("image,caption\nb\\x.jpg,Second .\na/x.jpg,First .\n")
    folder = CaptionFolder(tmp_path)
    assert [(folder.file(n).parent.name, folder.captions(n)) for n in range(2)] == [
        ("a", ("First .",)),
        ("b", ("Second .",)),
    ]
    assert len(folder.left_out) == 0
    (tmp_path / "captions.txt").write_text("image,caption\nx.jpg,Which ?\n")
    assert CaptionFolder(tmp_path).left_out.counts["names that several files have, the first of which is taken"] == 1


@pytest.mark.parametrize("way", ["memory", "cache", "neither"])
def test_batches_of_a_folder_leave_broken_pictures_out(flickr8k, tmp_path, way):
    options = {"memory": {}, "cache": {"cache": tmp_path / "kept"}, "neither": {"memory": 0}}[way]
    folder = CaptionFolder(flickr8k, image_size=28, **options)
    vocabulary = WordVocabulary.of(c for n in range(len(folder)) for c in folder.captions(n))
    data = CaptionBatches(folder.part("train"), vocabulary, batch_size=4)
    names = {name for step in range(len(data)) for name, _ in data.pictures(step)}
    assert "cut.jpg" not in names
    assert folder.kept(32).broken.keys() == {n for n in range(43) if folder.name(n) in ("cut.jpg", "empty.jpg")}
    images, _, targets = data.batch(3)
    for image, (name, _) in zip(images, data.pictures(3), strict=True):
        number = NAMES.index(name) if name in NAMES else 3
        assert np.abs(image.astype(int) - (number * 6 % 256, 40, 90)).max() <= 4
    assert (targets[:, 0] != -100).all()
    reference = CaptionBatches(CaptionFolder(flickr8k, image_size=28).part("train"), vocabulary, batch_size=4, ahead=0)
    assert all(np.array_equal(a, b) for a, b in zip(data.batch(5), reference.batch(5), strict=True))
    seen = list(CaptionHeldOut(folder.part("test"), vocabulary, every=True))
    assert sum(len(batch.ids) for batch in seen) == sum(len(folder.captions(int(n))) for n in folder.indices("test"))
    assert data.rows.augment == Augment()
    data.close()


def test_a_picture_that_was_replaced_is_decoded_again(flickr8k, tmp_path):
    folder = CaptionFolder(flickr8k, cache=tmp_path)
    assert abs(int(folder.kept(16).square(0)[0, 0, 0]) - 0) < 5
    picture(flickr8k / "Images" / NAMES[0], 20)
    assert abs(int(CaptionFolder(flickr8k, cache=tmp_path).kept(16).square(0)[0, 0, 0]) - 120) < 5


def test_the_fingerprint_tells_captions_apart(flickr8k):
    before = CaptionFolder(flickr8k).fingerprint()
    assert CaptionFolder(flickr8k).fingerprint() == before
    path = flickr8k / "captions.txt"
    path.write_text(path.read_text().replace("number 3 ,", "number three ,"))
    assert CaptionFolder(flickr8k).fingerprint() != before


def test_refusals(flickr8k, tmp_path):
    with pytest.raises(FileNotFoundError, match="no such folder"):
        CaptionFolder(tmp_path / "nowhere")
    (tmp_path / "empty").mkdir()
    with pytest.raises(ValueError, match=r"has no file of captions: expected captions.txt, results.csv"):
        CaptionFolder(tmp_path / "empty")
    (tmp_path / "empty" / "captions.txt").write_text("image,caption\na.jpg,A dog .\n")
    with pytest.raises(
        ValueError, match=r"has no picture with a caption.\n1 names with captions and without a picture"
    ):
        CaptionFolder(tmp_path / "empty")
    assert len(CaptionFolder(flickr8k, subset=44)) == 43
    with pytest.raises(ValueError, match="workers must be an integer from 1 to 64"):
        CaptionFolder(flickr8k, workers=0)
