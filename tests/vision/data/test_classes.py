"""A folder of pictures for each class."""

import numpy as np
import pytest

from loopos.data.order import Order
from loopos.vision import ClassFolder, Shapes, VisionConfig
from loopos.vision.data.framing import Augment, warped
from loopos.vision.data.sources import open_labelled

Image = pytest.importorskip("PIL.Image", reason="pictures are files here (extra [vision])")
SHAPES = Shapes(30, image_size=24)


def written(root, each=30, parts=("",), kinds=("dog", "cat")):
    """Of each class in each part so many pictures, by number."""
    for part in parts:
        for kind in kinds:
            folder = root / part / kind
            folder.mkdir(parents=True)
            for k in range(each):
                Image.fromarray(SHAPES.image(k % 30)).save(folder / f"{k:03d}.png")
    return root


def test_classes_are_folders_and_parts_a_digest_of_the_name(tmp_path):
    found = ClassFolder(written(tmp_path), 24)
    assert found.classes == ("cat", "dog")
    assert len(found) == 60
    assert sum(len(found.part(part)) for part in found.parts) == 60
    assert 30 < len(found.part("train")) < 60
    place = [found.name(k) for k in range(60)].index("dog/007.png")
    assert (found.image(place) == SHAPES.image(7)).all()
    assert (found.labels[place], found.captions(place)) == (1, ("dog",))
    part = found.part("train")
    assert part.images().shape == (len(part), 24, 24, 3)
    assert (part.labels == found.labels[part.numbers]).all()
    before = set(found.part("test").numbers.tolist())
    again = ClassFolder(tmp_path, 24)
    assert set(again.part("test").numbers.tolist()) == before
    assert again.fingerprint() == found.fingerprint()
    Image.fromarray(SHAPES.image(3)).save(tmp_path / "dog" / "007.png")
    assert ClassFolder(tmp_path, 24).fingerprint() != found.fingerprint()


def test_folders_of_parts(tmp_path):
    found = ClassFolder(written(tmp_path, 3, ("train", "val", "test")), 16)
    assert found.classes == ("cat", "dog")
    assert [len(found.part(part)) for part in ("train", "valid", "test")] == [6, 6, 6]
    assert found.image(0).shape == (16, 16, 3)
    assert all(found.name(int(n)).startswith("val/") for n in found.indices("valid"))


def test_a_class_may_be_called_as_a_part_is(tmp_path):
    assert ClassFolder(written(tmp_path, 4, kinds=("test", "cat")), 16).classes == ("cat", "test")


def test_broken_files_are_left_out_by_name(tmp_path):
    written(tmp_path, 3)
    (tmp_path / "cat" / "001.png").write_bytes(b"no picture")
    (tmp_path / "cat" / "notes.txt").write_text("no picture either")
    found = ClassFolder(tmp_path, 16)
    assert len(found) == 5
    assert "cat/001.png" in str(found.left_out)
    assert "cat/001.png" not in [found.name(k) for k in range(5)]


def test_a_subset(tmp_path):
    written(tmp_path)
    found = ClassFolder(tmp_path, 16, 20, seed=3)
    assert len(found) == 20
    names = [found.name(k) for k in range(20)]
    assert names == [ClassFolder(tmp_path, 16, 20, seed=3).name(k) for k in range(20)]
    assert names != [ClassFolder(tmp_path, 16, 20, seed=4).name(k) for k in range(20)]


def test_refusals(tmp_path, monkeypatch):
    with pytest.raises(FileNotFoundError, match="no such folder"):
        ClassFolder(tmp_path / "none")
    with pytest.raises(ValueError, match="pictures of 0 classes; expected a folder of pictures for each"):
        ClassFolder(tmp_path)
    written(tmp_path, 2, kinds=("cat",))
    with pytest.raises(ValueError, match="pictures of 1 classes"):
        ClassFolder(tmp_path)
    written(tmp_path, 2, kinds=("dog",))
    monkeypatch.setattr("loopos._core.available_bytes", lambda: 1000.0)
    with pytest.raises(MemoryError, match="4 pictures of 16 x 16 take 3072 bytes"):
        ClassFolder(tmp_path, 16)
    monkeypatch.undo()
    for file in tmp_path.rglob("*.png"):
        file.write_bytes(b"")
    with pytest.raises(ValueError, match="no picture that can be decoded"):
        ClassFolder(tmp_path, 16)


def test_shapes_of_images(tmp_path):
    assert np.asarray(ClassFolder(written(tmp_path, 2), 8).image(0)).dtype == np.uint8


def test_training_warps_pictures_and_mirrors_none(tmp_path):
    found = ClassFolder(written(tmp_path), 24)
    assert found.augment == Augment(crop=False, flip=False, warp=0.1)
    part = found.part("train")
    opened = open_labelled(VisionConfig(24, 8, 1, 2, 16, num_classes=2), part, found.part("test"), 8)
    order = [int(row) for row in Order(len(part), 1337).batch(0, 8)]
    plain = part.images()[order]
    assert np.array_equal(opened.train.batch(0)[0], warped(plain, 0.1, [(1337, row, 0) for row in order]))
    assert np.array_equal(next(iter(opened.eval))[0], found.part("test").images()[:8])
