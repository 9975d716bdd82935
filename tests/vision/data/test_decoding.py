"""Picture files as they come: decoded rightly, or refused with their name."""

from __future__ import annotations

import io
import pickle
import struct
import warnings
import zlib
from concurrent.futures import ThreadPoolExecutor

import numpy as np
import pytest

from loopos.vision.data import decoding
from loopos.vision.data.decoding import PictureError, decode, decode_square, framed

PIL = pytest.importorskip("PIL", reason="needs the extra [vision]")
from PIL import Image  # noqa: E402

RAMP = np.stack(np.broadcast_arrays(np.arange(0, 240, 6)[:, None], np.arange(0, 180, 6)[None, :], 90), -1).astype(
    np.uint8
)


@pytest.fixture
def saved(tmp_path):
    def save(image, name, **options):
        (image if isinstance(image, Image.Image) else Image.fromarray(image)).save(tmp_path / name, **options)
        return tmp_path / name

    return save


@pytest.mark.parametrize("name", ["a.png", "a.bmp", "a.tif"])
def test_files_without_loss_come_back_bit_for_bit(saved, name):
    image = decode(saved(RAMP, name))
    assert image.dtype == np.uint8
    assert np.array_equal(image, RAMP)


def test_jpeg_and_cmyk_are_near(saved):
    assert np.abs(decode(saved(RAMP, "a.jpg", quality=95)).astype(int) - RAMP).max() < 20
    cmyk = decode(saved(Image.fromarray(RAMP).convert("CMYK"), "c.jpg", quality=95))
    assert np.abs(cmyk.astype(int) - RAMP).mean() < 4


def test_16_bits_are_scaled_and_not_cut_off(saved):
    deep = (np.arange(256, dtype=np.uint16) * 257).reshape(16, 16)
    for name in ("a.png", "a.tif"):
        assert np.array_equal(decode(saved(deep, name))[..., 1], np.arange(256).reshape(16, 16))


@pytest.mark.parametrize("mode", ["I", "F"])
def test_32_bits_have_no_agreed_white(saved, mode):
    path = saved(Image.new(mode, (4, 4), 7), "a.tif")
    with pytest.raises(PictureError, match=f"a.tif: cannot be decoded: ValueError: mode {mode} has no agreed white"):
        decode(path)


def test_transparency_is_laid_on_white(saved):
    image = np.zeros((4, 6, 4), np.uint8)
    image[:, :2] = (200, 40, 0, 255)
    image[:, 2:4] = (200, 40, 0, 128)
    wanted = np.array([[200, 40, 0], [227, 147, 127], [255, 255, 255]])
    assert np.abs(decode(saved(image, "a.png"))[1, [0, 2, 5]].astype(int) - wanted).max() <= 1
    grey = Image.new("LA", (4, 4), (90, 0))
    assert (decode(saved(grey, "b.png")) == 255).all()
    palette = Image.new("P", (4, 4), 0)
    palette.putpalette([10, 20, 30, 200, 100, 50])
    palette.putpixel((1, 1), 1)
    shown = decode(saved(palette, "c.png", transparency=0))
    assert shown[0, 0].tolist() == [255, 255, 255]
    assert shown[1, 1].tolist() == [200, 100, 50]
    assert decode(saved(palette, "d.png"))[0, 0].tolist() == [10, 20, 30]
    assert decode(saved(Image.new("1", (3, 3), 1), "e.png")).tolist() == [[[255] * 3] * 3] * 3


@pytest.mark.parametrize("orientation", range(1, 9))
def test_what_the_camera_turned_is_turned_back(saved, orientation):
    from PIL import ImageOps

    image = Image.fromarray(RAMP)
    exif = image.getexif()
    exif[0x0112] = orientation
    for name in ("a.png", "a.tif"):
        path = saved(image, name, exif=exif)
        wanted = np.asarray(ImageOps.exif_transpose(Image.open(path)))
        assert np.array_equal(decode(path), wanted)
    assert wanted.shape == ((40, 30, 3) if orientation < 5 else (30, 40, 3))


def test_exif_that_cannot_be_read_turns_nothing(saved):
    path = saved(RAMP, "a.png", exif=b"Exif\x00\x00MM\x00\x2a\xff\xff\xff\xff")
    assert np.array_equal(decode(path), RAMP)
    exif = Image.Exif()
    exif[0x0112] = 99
    assert np.array_equal(decode(saved(RAMP, "b.png", exif=exif)), RAMP)


def test_an_animation_gives_its_first_picture(saved):
    frames = [Image.new("RGB", (5, 4), colour) for colour in ("red", "lime", "blue")]
    path = saved(frames[0], "a.gif", save_all=True, append_images=frames[1:])
    assert decode(path).tolist() == [[[255, 0, 0]] * 5] * 4


def png(width, height, data=b""):
    """A PNG that claims a size."""

    def chunk(kind, body):
        return struct.pack(">I", len(body)) + kind + body + struct.pack(">I", zlib.crc32(kind + body))

    header = struct.pack(">IIBBBBB", width, height, 8, 2, 0, 0, 0)
    return b"\x89PNG\r\n\x1a\n" + chunk(b"IHDR", header) + chunk(b"IDAT", zlib.compress(data)) + chunk(b"IEND", b"")


def broken():
    whole = io.BytesIO()
    Image.fromarray(np.random.default_rng(0).integers(0, 255, (64, 64, 3), np.uint8)).save(whole, "JPEG")
    jpeg = whole.getvalue()
    return {
        "empty.jpg": (b"", r"the file is empty \(0 bytes\)"),
        "text.jpg": (b"<html>not found</html>", "no picture of a kind that Pillow knows"),
        "cut.jpg": (jpeg[: len(jpeg) // 2], "cannot be read: image file is truncated"),
        "header.jpg": (jpeg[:30], "cannot be|no picture"),
        "short.png": (png(64, 64, b"\x00" * 100), "cannot be"),
        "none.png": (png(0, 5), "no pixels|cannot be|no picture"),
        "large.png": (png(20_000, 5_001), "20000 x 5001 pixels, more than the 100000000"),
        "bomb.png": (png(60_000, 60_000), "more pixels than the 100000000|60000 x 60000 pixels"),
        "gone.jpg": (None, "cannot be read: No such file"),
    }


@pytest.mark.parametrize("name", broken())
def test_what_is_broken_is_refused_by_name_and_without_a_warning(name, tmp_path):
    data, says = broken()[name]
    if data is not None:
        (tmp_path / name).write_bytes(data)
    with warnings.catch_warnings():
        warnings.simplefilter("error")
        for read in (decode, lambda path, name: decode_square(path, 8, name)):
            with pytest.raises(PictureError, match=f"^{name}: ({says})") as caught:
                read(tmp_path / name, name)
    assert caught.value.name == name
    assert str(pickle.loads(pickle.dumps(caught.value))) == str(caught.value)


def test_every_cut_and_many_flipped_bytes_are_a_picture_or_a_refusal(tmp_path):
    whole = io.BytesIO()
    Image.fromarray(RAMP).save(whole, "PNG")
    rng, path = np.random.default_rng(1), tmp_path / "a.png"
    for length in range(0, len(whole.getvalue()), 7):
        path.write_bytes(whole.getvalue()[:length])
        if length < len(whole.getvalue()) - 16:  # of the last 16 bytes no pixel depends
            with pytest.raises(PictureError):
                decode(path)
    refused = 0
    for _ in range(150):
        data = bytearray(whole.getvalue())
        data[rng.integers(len(data))] ^= 1 << rng.integers(8)
        path.write_bytes(data)
        try:
            assert decode(path).dtype == np.uint8
        except PictureError:
            refused += 1
    assert refused > 50


def test_the_warnings_of_others_stay(saved):
    path = saved(RAMP, "a.png")
    with warnings.catch_warnings(record=True) as seen:
        warnings.simplefilter("always")
        before = list(warnings.filters)
        with ThreadPoolExecutor(4) as pool:
            assert all(np.array_equal(image, RAMP) for image in pool.map(decode, [path] * 40))
        assert warnings.filters == before
        warnings.warn("mine", stacklevel=1)
    assert [str(each.message) for each in seen] == ["mine"]


def test_a_square_is_the_middle_brought_to_its_side(saved):
    image = np.zeros((40, 100, 3), np.uint8)
    image[:, 30:70] = 200
    assert (decode_square(saved(image, "wide.png"), 20) == 200).all()
    assert (decode_square(saved(image.transpose(1, 0, 2), "tall.png"), 20) == 200).all()
    assert np.array_equal(framed(RAMP[:30], 30), RAMP[:30])
    assert decode_square(saved(np.zeros((3, 9000, 3), np.uint8), "thin.png"), 32).shape == (32, 32, 3)
    assert decode_square(saved(RAMP[:1, :1], "dot.png"), 16).tolist() == [[RAMP[0, 0].tolist()] * 16] * 16


def test_a_large_jpeg_is_decoded_small_and_looks_the_same(saved):
    y, x = np.mgrid[:800, :1200]
    image = np.stack([x / 5, y / 4, (x + y) / 9], -1).astype(np.uint8)
    path = saved(image, "a.jpg", quality=95)
    assert np.abs(decode_square(path, 64).astype(int) - framed(decode(path), 64)).max() <= 4


def test_pillow_is_an_extra(monkeypatch, tmp_path):
    monkeypatch.setitem(__import__("sys").modules, "PIL", None)
    with pytest.raises(ImportError, match=r"need the package Pillow; pip install 'loopos\[vision\]'"):
        decoding.decode(tmp_path / "a.png")
