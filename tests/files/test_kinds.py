"""First bytes: each kind is named, and what is as it should be is not."""

import bz2
import gzip
import io
import lzma
import pickle
import tarfile
import zipfile

import numpy as np
import pytest

import loopos
from loopos.errors import CheckpointError
from loopos.files.kinds import ids_kind_of, kind_of, weights_kind_of
from loopos.files.tensorfile import read_metadata

POINTER = b"version https://git-lfs.github.com/spec/v1\noid sha256:" + b"4d" * 32 + b"\nsize 548105171\n"


def _zip() -> bytes:
    buffer = io.BytesIO()
    with zipfile.ZipFile(buffer, "w") as archive:
        archive.writestr("data.pkl", b"x")
    return buffer.getvalue()


def _tar() -> bytes:
    buffer = io.BytesIO()
    with tarfile.open(fileobj=buffer, mode="w") as archive:
        archive.addfile(tarfile.TarInfo("a"))
    return buffer.getvalue()


def _npy() -> bytes:
    buffer = io.BytesIO()
    np.save(buffer, np.zeros(3))
    return buffer.getvalue()


NAMED = {
    "git-lfs": POINTER,
    "ZIP": _zip(),
    "gzip": gzip.compress(b"a"),
    "bzip2": bz2.compress(b"a"),
    "xz": lzma.compress(b"a"),
    "tar": _tar(),
    "PDF": b"%PDF-1.5\n",
    "GGUF": b"GGUF\3\0\0\0",
    "numpy": _npy(),
    "Parquet": b"PAR1\x15\x04",
    "PNG": b"\x89PNG\r\n\x1a\n",
    "JPEG": b"\xff\xd8\xff\xe0",
    "pickle": pickle.dumps([1], protocol=4),
    "UTF-16": "abc".encode("utf-16"),
    "UTF-32": "abc".encode("utf-32"),
    "HTML": b"\n  <!DOCTYPE html>\n<html>",
    "an HTML page": b"\xef\xbb\xbf<html lang='en'>",
}
TEXTS = [
    b"",
    b"a tale",
    b"MZ and PK",
    "\ufeffa tale".encode(),
    b'{"a": 1}',
    b"<p>a note on <html></p>",
    b"<?xml version='1.0'?>",
]


@pytest.mark.parametrize("name", NAMED)
def test_what_is_no_text_is_named(name):
    assert name in kind_of(NAMED[name])
    assert name in weights_kind_of(NAMED[name])


@pytest.mark.parametrize("text", [*TEXTS, "Größe, 大小".encode(), "Größe".encode("latin-1"), bytes(9)])
def test_text_is_not(text):
    assert kind_of(text) is None


WRONG_WEIGHTS = NAMED | {
    "empty": b"",
    "zeros": bytes(4096),
    "Entry not found": b"Entry not found",
    "a text that begins": b'{"error": "not authorised"}',
}


@pytest.mark.parametrize("name", WRONG_WEIGHTS)
def test_weights_that_are_something_else(name, tmp_path):
    loopos.Model(loopos.ModelConfig(16, 8, 1, 2, 8)).save_pretrained(tmp_path)
    path = tmp_path / "model.safetensors"
    for more in (b"", b"\n" * 4096):
        path.write_bytes(WRONG_WEIGHTS[name] + (more if name != "empty" else b""))
        for read in (read_metadata, lambda _: loopos.Model.from_pretrained(tmp_path)):
            with pytest.raises(CheckpointError, match=f"no safetensors file: this is .*{name}") as caught:
                read(path)
            assert caught.value.path == str(path)


@pytest.mark.parametrize("name", ["git-lfs", "HTML", "gzip", "UTF-16"])
def test_a_config_that_is_something_else(name, tmp_path):
    loopos.Model(loopos.ModelConfig(16, 8, 1, 2, 8)).save_pretrained(tmp_path)
    (tmp_path / "config.json").write_bytes(NAMED[name])
    with pytest.raises(CheckpointError, match=f"config.json.*no JSON: this is .*{name}"):
        loopos.Model.from_pretrained(tmp_path)


def test_what_is_no_file_of_ids():
    for name in ("git-lfs", "ZIP", "Parquet", "GGUF", "HTML"):
        assert ids_kind_of(NAMED[name]) == kind_of(NAMED[name]), name
    assert ids_kind_of(gzip.compress(b"a" * 99)) == "compressed by gzip"
    assert ids_kind_of(b"a line of a text\n" * 40).startswith("a text that begins with 'a line of a text")
    assert "HTML page" in kind_of(b"<?xml version='1.0'?>\n<Error><Code>AccessDenied</Code></Error>")


def test_ids_of_any_bytes_are_let_alone():
    """Two bytes are a signature by chance in one file of 65,536."""
    rng = np.random.default_rng(0)
    for first in (b"\x1f\x8b", b"BZ", b"PK", b"MZ", b"\xff\xfe", b"\xff\xd8", b"ID", b"<h"):
        assert ids_kind_of(first + rng.integers(0, 50257, 300).astype("<u2").tobytes()) is None
    for high in (2, 256, 32_000, 65_536):
        assert ids_kind_of(rng.integers(0, high, 300).astype("<u2").tobytes()) is None
    assert ids_kind_of(bytes(600)) is None
