"""Caption files as people have them: Flickr8k and Flickr30k in their several forms, COCO, and Karpathy's JSON.

Each is read into rows (name of the picture, caption). What cannot be read is noted, never guessed: but the one row of
Flickr30k that lacks a separator, whose meaning is plain, is mended, and the note says so.
"""

from __future__ import annotations

import csv
import json
import re
from collections.abc import Iterator
from pathlib import Path
from typing import Any, NamedTuple

from loopos import checks

from .left_out import LeftOut

UNREADABLE = "rows that could not be read"
MENDED = "rows without their second separator, mended"
EMPTY = "captions without a word"
_IMAGE = ("image", "image_name", "file_name", "filename", "image_id", "img", "name")
_CAPTION = ("caption", "comment", "sentence", "captions", "text", "raw")
HELD_OUT = "held out"  # COCO's val: its test pictures have no captions
_COCO = {"train": "train", "val": HELD_OUT, "test": "test"}
_SPLITS = {"train": "train", "restval": "train", "val": "valid", "valid": "valid", "dev": "valid", "test": "test"}


class Row(NamedTuple):
    """image: as the file names it; part: where the file says so, else None."""

    image: str
    caption: str
    part: str | None = None


def read_captions(path: Path, left_out: LeftOut) -> list[Row]:
    """The rows of a caption file, in its order; what of it cannot be used goes to ``left_out``. A file that is none:
    ValueError; one that cannot be read: OSError."""
    rows = _json(path) if path.suffix.lower() == ".json" else _lines(path, left_out)
    kept = []
    for row in rows:
        if row.caption.strip():
            kept.append(row._replace(image=row.image.strip(), caption=" ".join(row.caption.split())))
        else:
            left_out.add(EMPTY, row.image.strip())
    if not kept:
        raise ValueError(f"{path}: none of its lines is a caption; {EXPECTED}")
    return kept


EXPECTED = (
    "expected a header such as image,caption, lines such as name.jpg#0<tab>caption, or the JSON of COCO (images, "
    "annotations) or Karpathy (images with sentences)"
)


def _text(path: Path) -> str:
    try:
        return path.read_bytes().decode("utf-8-sig")
    except UnicodeDecodeError as error:
        raise ValueError(f"{path}: byte {error.start} is not UTF-8; save the captions as UTF-8") from None


def _lines(path: Path, left_out: LeftOut) -> Iterator[Row]:
    lines = [(number, line) for number, line in enumerate(re.split(r"\r\n|\r|\n", _text(path)), 1) if line.strip()]
    if not lines:
        raise ValueError(f"{path}: the file is empty; {EXPECTED}")
    first = lines[0][1]
    for separator in ("|", "\t", ","):
        columns = [name.strip().strip('"').lower() for name in first.split(separator)]
        image = next((columns.index(name) for name in _IMAGE if name in columns), None)
        caption = next((columns.index(name) for name in _CAPTION if name in columns), None)
        if image is not None and caption is not None:
            yield from _table(lines[1:], separator, image, caption, len(columns), path, left_out)
            return
    if re.match(r"[^\t]+#\d+\t", first) is None:
        raise ValueError(f"{path}: its first line is {checks.shown(first)}; {EXPECTED}")
    for number, line in lines:
        if match := re.fullmatch(r"([^\t]+)#\d+\t(.*)", line):
            yield Row(match[1], match[2])
        else:
            left_out.add(UNREADABLE, f"{path.name} line {number}")


def _table(
    lines: list[tuple[int, str]], separator: str, image: int, caption: int, count: int, path: Path, left_out: LeftOut
) -> Iterator[Row]:
    """Rows of a table whose caption may hold the separator where it is the last column."""
    for number, line in lines:
        fields = _fields(line, separator, count if caption == count - 1 else 0)
        if len(fields) == count:
            yield Row(fields[image], fields[caption])
        elif separator == "|" and count == 3 and (match := re.fullmatch(r"([^|]+)\|\s*\d+\s+([^|]+)", line)):
            left_out.add(MENDED, f"{path.name} line {number}")
            yield Row(match[1], match[2])
        else:
            left_out.add(UNREADABLE, f"{path.name} line {number}")


def _fields(line: str, separator: str, at_most: int) -> list[str]:
    """The fields of a line. Quotes count as CSV has them where they are in order; else they are part of the caption.
    at_most: fields beyond it belong to the last; 0: no limit."""
    if separator == "," and '"' in line:
        try:
            fields = next(csv.reader([line], strict=True))
        except csv.Error:  # a quote that does not close, or text behind one
            fields = line.split(separator)
    else:
        fields = line.split(separator)
    if at_most and len(fields) > at_most:
        fields = [*fields[: at_most - 1], separator.join(fields[at_most - 1 :])]
    return fields


def _json(path: Path) -> list[Row]:
    try:
        told = json.loads(_text(path))
    except (json.JSONDecodeError, RecursionError) as error:
        raise ValueError(f"{path}: not valid JSON: {error}") from None
    try:
        if "annotations" in told:
            names = {image["id"]: str(image["file_name"]) for image in told["images"]}
            part = next((part for word, part in _COCO.items() if word in path.stem.lower()), None)
            return [
                Row(names.get(each["image_id"], f"image_id {each['image_id']}"), str(each["caption"]), part)
                for each in told["annotations"]
            ]
        return [_sentence(image, sentence) for image in told["images"] for sentence in image["sentences"]]
    except (KeyError, TypeError, AttributeError) as error:
        raise ValueError(f"{path}: no captions are found where they should be ({error!r}); {EXPECTED}") from None


def _sentence(image: dict[str, Any], sentence: dict[str, Any]) -> Row:
    return Row(str(image["filename"]), str(sentence["raw"]), _SPLITS.get(str(image.get("split"))))
