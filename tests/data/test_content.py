"""loopos/data/content.py: what is no text is named by its first bytes; texts of every kind are let alone."""

import gzip
import io
import json
import lzma
import pickle
import struct
import tarfile
import zipfile

import numpy as np
import pytest

import loopos
from loopos.data import load_ids
from loopos.data.content import HEAD, look

WORDS = "It was a bright cold day in April, and the clocks were striking thirteen.\n"
CONFIG = loopos.ModelConfig(vocab_size=256, context_length=8, n_layer=1, n_head=2, d_model=8)


def packed(kind):
    out = io.BytesIO()
    if kind == "zip":
        with zipfile.ZipFile(out, "w") as archive:
            archive.writestr("a.txt", WORDS * 90)
    elif kind == "npz":
        np.savez(out, np.arange(999))
    elif kind == "npy":
        np.save(out, np.arange(999))
    elif kind == "tar":
        with tarfile.open(fileobj=out, mode="w") as archive:
            archive.addfile(tarfile.TarInfo("a.txt"), io.BytesIO(b""))
    elif kind == "safetensors":
        header = json.dumps({"w": {"dtype": "F32", "shape": [9], "data_offsets": [0, 36]}}).encode()
        out.write(struct.pack("<Q", len(header)) + header + bytes(36))
    return out.getvalue()


BINARY = {
    "gzip": gzip.compress((WORDS * 90).encode()),
    "xz": lzma.compress((WORDS * 90).encode()),
    "PDF": b"%PDF-1.5\n" + bytes(range(256)) * 20,
    "ZIP": packed("zip"),
    ".npz": packed("npz"),
    "numpy": packed("npy"),
    "tar": packed("tar"),
    "safetensors": packed("safetensors"),
    "pickle": pickle.dumps({"a": list(range(999))}, protocol=2),
    "Parquet": b"PAR1\x15\x04" + bytes(900),
    "PNG": b"\x89PNG\r\n\x1a\n" + bytes(900),
    "SQLite": b"SQLite format 3\x00" + bytes(900),
}
ODD = {
    "UTF-16": (WORDS * 90).encode("utf-16"),
    "UTF-16 without": (WORDS * 90).encode("utf-16-be"),
    "UTF-32": (WORDS * 90).encode("utf-32"),
    "git-lfs": b"version https://git-lfs.github.com/spec/v1\noid sha256:" + b"4d" * 32 + b"\nsize 1115394\n",
    "HTML": b"<!DOCTYPE html>\n<html><head><title>404 Not Found</title></head></html>\n" * 9,
    "are 0": (WORDS * 9).encode() + bytes(20_000),
    "control characters": np.random.default_rng(0).integers(0, 256, 4000).astype(np.uint8).tobytes(),
    "RTF": rb"{\rtf1\ansi Hello}" * 20,
    "JSON lines": b'{"prompt": "a", "completion": "b"}\n' * 20,
}


@pytest.mark.parametrize("kind", BINARY)
@pytest.mark.parametrize("suffix", ["txt", "", "data"])
def test_what_cannot_be_text_is_refused(kind, suffix, tmp_path):
    path = tmp_path / f"file.{suffix}"
    path.write_bytes(BINARY[kind])
    for data in (path, str(path)):
        with pytest.raises(ValueError, match=rf"data \(file .*\): this is .*{kind}.*unpack it.*tokenizer='bytes'"):
            loopos.train(CONFIG, data, max_steps=1, progress=False)
    with pytest.raises(ValueError, match=r"eval_data \(file .*this is"):
        loopos.train(CONFIG, WORDS, eval_data=path, max_steps=1, progress=False)
    with pytest.raises(ValueError, match="this is"):
        load_ids(path, "chars")


@pytest.mark.parametrize("kind", BINARY)
def test_bytes_asked_for_by_name_are_learned(kind, tmp_path):
    path = tmp_path / "file"
    path.write_bytes(BINARY[kind])
    with pytest.warns(UserWarning, match=kind):
        ids, _ = load_ids(path, "bytes")
    assert bytes(ids) == BINARY[kind]
    assert bytes(load_ids(BINARY[kind])[0]) == BINARY[kind]  # bytes themselves are legal, and nothing is said


@pytest.mark.parametrize("kind", ODD)
def test_what_is_hardly_meant_is_told(kind, tmp_path):
    path = tmp_path / "file.txt"
    path.write_bytes(ODD[kind])
    with pytest.warns(UserWarning, match=rf"data \(file .*this is .*{kind}"):
        loopos.train(CONFIG, path, max_steps=1, progress=False)


@pytest.mark.parametrize(("suffix", "kind"), [("tsv", "TSV"), ("json", "JSON")])
def test_tables_are_told_by_name(suffix, kind, tmp_path):
    path = tmp_path / f"file.{suffix}"
    path.write_text(WORDS * 9)
    with pytest.warns(UserWarning, match=f"{kind}.*learned as text; to learn examples, name the file .jsonl"):
        load_ids(path)


TEXTS = {
    "plain": WORDS * 900,
    "short": "ab",
    "empty": "",
    "russian": "Все счастливые семьи похожи друг на друга. " * 200,
    "emoji": "😀😃" * 900,
    "code": "def f(x):\n\treturn {'a': x}\n\n" * 300,
    "colours": "\x1b[1;36mINFO\x1b[0m step 3\n" * 300,
    "form feeds": ("page\f" + WORDS) * 90,
    "markup": "<p>a <b>paragraph</b></p>\n" * 300,
    "PKZIP in words": "PK is a prefix. " * 90,
    "one object": '{"a": 1}\n' + WORDS * 90,
    "with a mark": "\ufeff" + WORDS * 90,
}


@pytest.mark.parametrize("kind", TEXTS)
def test_texts_are_let_alone(kind):
    assert look(TEXTS[kind].encode(), ".txt") is None


@pytest.mark.parametrize("encoding", ["latin-1", "cp1252", "shift_jis", "gb18030", "koi8-r", "utf-8"])
def test_other_encodings_of_ascii_are_let_alone(encoding):
    text = {"shift_jis": "吾輩は猫である。", "gb18030": "天地玄黄，宇宙洪荒。", "koi8-r": "Все семьи"}.get(
        encoding, "Käse, Œuvre, né"
    )
    assert look((text * 400).encode(encoding, errors="replace"), ".txt") is None


def test_a_page_that_is_called_one_is_let_alone():
    assert look(ODD["HTML"], ".html") is None


def test_no_more_than_the_beginning_is_looked_at():
    assert look(WORDS.encode() * (HEAD // len(WORDS) + 1) + bytes(HEAD), ".txt") is None
