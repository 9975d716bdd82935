"""Picture files to arrays, by Pillow (extra [vision]). A file is decoded rightly, or refused with its name and why.

Red, green, blue of 8 bits come out, whatever goes in: 16 bits are scaled, transparency is laid on white, CMYK is turned
into colours, the reflection and rotation that a camera noted are undone, an animation gives its first picture.
"""

from __future__ import annotations

import contextlib
import threading
import warnings
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import numpy as np

MAX_PIXELS = 100_000_000  # of a picture: 300 MB when decoded; a small file can claim far more
SUFFIXES = (".jpg", ".jpeg", ".png", ".bmp", ".gif", ".webp", ".tif", ".tiff")
_DEEP = 65535  # white of 16 bits


class PictureError(ValueError):
    """A picture that cannot be used. ``name``: its file; ``reason``: why."""

    def __init__(self, name: str, reason: str):
        super().__init__(f"{name}: {reason}")
        self.name, self.reason = name, reason

    def __reduce__(self):
        return type(self), (self.name, self.reason)


def pillow() -> Any:
    """The module PIL.Image; ImportError naming the extra."""
    try:
        from PIL import Image
    except ImportError:
        raise ImportError(
            "picture files, and pictures of another size, need the package Pillow; pip install 'loopos[vision]'"
        ) from None
    return Image


def decode(path: Path, name: str | None = None) -> np.ndarray:
    """uint8 (H, W, 3) of a picture file; PictureError where it is none, broken, or has more than 100 million pixels."""
    with _opened(path, name or str(path)) as image:
        return np.asarray(_coloured(image), np.uint8)


def decode_square(path: Path, side: int, name: str | None = None) -> np.ndarray:
    """uint8 (side, side, 3): the middle square of a picture, brought to that side. A large JPEG is decoded at a half, a
    quarter or an eighth of its size where that suffices, which is faster. Else as :func:`decode`."""
    with _opened(path, name or str(path)) as image:
        image.draft(None, (side, side))
        return framed(_coloured(image), side)


def framed(image: Any, side: int) -> np.ndarray:
    """uint8 (side, side, 3): the middle square of a Pillow picture or an array (H, W, 3), resampled (bicubic)."""
    if isinstance(image, np.ndarray) and image.shape[:2] == (side, side):
        return image
    images = pillow()
    if isinstance(image, np.ndarray):
        image = images.fromarray(image)
    width, height = image.size
    edge = min(width, height)
    left, top = (width - edge) // 2, (height - edge) // 2
    square = image.crop((left, top, left + edge, top + edge))  # box= of resize would let what lies around it shine in
    return np.asarray(square.resize((side, side), images.Resampling.BICUBIC, reducing_gap=3.0), np.uint8)


@contextlib.contextmanager
def _opened(path: Path, name: str) -> Iterator[Any]:
    """The picture, its header checked. Whatever goes wrong until it is closed, a decoder's own errors included, is a
    PictureError: a broken file can raise anything."""
    images = pillow()
    try:
        with _quiet():
            if path.stat().st_size == 0:
                raise PictureError(name, "the file is empty (0 bytes)")
            with images.open(path) as image:
                width, height = image.size
                if width < 1 or height < 1:
                    raise PictureError(name, f"the picture has no pixels ({width} x {height})")
                if width * height > MAX_PIXELS:
                    raise PictureError(name, f"{width} x {height} pixels, more than the {MAX_PIXELS} that are decoded")
                yield image
    except PictureError:
        raise
    except images.DecompressionBombError:
        raise PictureError(name, f"more pixels than the {MAX_PIXELS} that are decoded") from None
    except images.UnidentifiedImageError:
        raise PictureError(name, "no picture of a kind that Pillow knows") from None
    except OSError as error:
        raise PictureError(name, f"cannot be read: {error.strerror or error}") from None
    except MemoryError:
        raise PictureError(name, "no memory to decode it") from None
    except Exception as error:
        raise PictureError(name, f"cannot be decoded: {type(error).__name__}: {error}") from None


def _coloured(image: Any) -> Any:
    """A Pillow picture of mode RGB, upright."""
    images, mode = pillow(), image.mode
    if mode.startswith("I;16") or (mode == "I" and image.format == "PNG"):
        deep = np.asarray(image).astype(np.int64)
        image = _turned(images.fromarray(((deep * 255 + _DEEP // 2) // _DEEP).astype(np.uint8)), image)
        return image.convert("RGB")
    if mode in ("I", "F"):
        raise ValueError(f"mode {mode} has no agreed white; save it with 8 or 16 bits a channel")
    image.load()
    upright = _turned(image, image)
    if mode in ("LA", "PA", "RGBA", "La", "RGBa") or "transparency" in image.info:
        clear = upright.convert("RGBA")
        return images.alpha_composite(images.new("RGBA", clear.size, "white"), clear).convert("RGB")
    return upright.convert("RGB")


_TURNS = {2: "FLIP_LEFT_RIGHT", 3: "ROTATE_180", 4: "FLIP_TOP_BOTTOM", 5: "TRANSPOSE"}
_TURNS |= {6: "ROTATE_270", 7: "TRANSVERSE", 8: "ROTATE_90"}  # by the number of EXIF's tag Orientation


def _turned(image: Any, noted: Any) -> Any:
    """``image`` as the camera that made ``noted`` held it. Notes that cannot be read turn nothing."""
    try:
        orientation = noted.getexif().get(0x0112)
    except Exception:  # malformed EXIF raises anything
        orientation = None
    turn = _TURNS.get(orientation) if isinstance(orientation, int) else None
    return image.transpose(pillow().Transpose[turn]) if turn else image


_LOCK = threading.Lock()
_inside = 0
_restore: Any = None


@contextlib.contextmanager
def _quiet() -> Iterator[None]:
    """Pillow's warnings are not shown while any thread decodes: a set of thousands of files would print thousands. What
    they tell of (size, EXIF) is looked at here. The filters are the process's, so threads share one change of them."""
    global _inside, _restore
    with _LOCK:
        if _inside == 0:
            _restore = warnings.catch_warnings()
            _restore.__enter__()
            warnings.filterwarnings("ignore", module=r"PIL(\.|$)")
            warnings.filterwarnings("ignore", category=pillow().DecompressionBombWarning)
        _inside += 1
    try:
        yield
    finally:
        with _LOCK:
            _inside -= 1
            if _inside == 0:
                _restore.__exit__(None, None, None)
