"""Durable writes, reads that never wait or trust, and strict JSON."""

import errno
import hashlib
import json
import math
import os
import stat

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from loopos.errors import CheckpointError
from loopos.files import durable


@pytest.fixture
def calls(monkeypatch):
    """The durable calls in order: ("fsync", path), ("rename", target)."""
    seen = []
    fsync, rename = os.fsync, os.rename

    def logged_fsync(fd):
        seen.append(("fsync", os.readlink(f"/proc/self/fd/{fd}")))
        fsync(fd)

    def logged_rename(source, target):
        seen.append(("rename", str(target)))
        rename(source, target)

    monkeypatch.setattr(os, "fsync", logged_fsync)
    monkeypatch.setattr(os, "rename", logged_rename)
    return seen


def test_a_write_is_synced_renamed_and_its_folder_synced(tmp_path, calls):
    path = tmp_path / "a.bin"
    for data in (b"first", b"", bytes(100_000), memoryview(b"view")):
        durable.write_bytes(path, data)
        assert path.read_bytes() == bytes(data)
        assert durable.sha256(path) == hashlib.sha256(data).hexdigest()
        kinds = [kind for kind, _ in calls]
        assert kinds == ["fsync", "rename", "fsync"]
        assert os.path.dirname(calls[0][1]) == str(tmp_path)
        assert ".tmp." in calls[0][1]
        assert calls[1:] == [("rename", str(path)), ("fsync", str(tmp_path))]
        calls.clear()
    assert os.listdir(tmp_path) == ["a.bin"]


def test_new_folders_are_synced_into_their_parents(tmp_path, calls):
    durable.make_folder(tmp_path / "a" / "b")
    assert calls == [("fsync", str(tmp_path)), ("fsync", str(tmp_path / "a"))]
    calls.clear()
    durable.make_folder(tmp_path / "a" / "b")
    assert calls == []
    (tmp_path / "broken").symlink_to(tmp_path / "nowhere")
    for taken in ("broken", "broken/x"):
        with pytest.raises(NotADirectoryError, match="not a folder has this name"):
            durable.make_folder(tmp_path / taken)


def test_the_umask_decides_who_may_read(tmp_path):
    old = os.umask(0o027)
    try:
        durable.write_bytes(tmp_path / "a", b"x")
    finally:
        os.umask(old)
    assert stat.S_IMODE(os.stat(tmp_path / "a").st_mode) == 0o640


def test_create_takes_no_name_that_exists(tmp_path):
    (tmp_path / "file").write_text("kept")
    (tmp_path / "link").symlink_to(tmp_path / "target")
    for name in ("file", "link"):
        with pytest.raises(FileExistsError, match="cannot write: File exists") as caught:
            durable.create(tmp_path / name, b"x")
        assert caught.value.filename == str(tmp_path / name)
    assert (tmp_path / "file").read_text() == "kept"
    assert not (tmp_path / "target").exists()


@pytest.mark.parametrize("call", ["open", "write", "fsync", "rename", "close"])
def test_a_failed_write_keeps_the_old_file_and_removes_the_new(tmp_path, monkeypatch, call):
    path = tmp_path / "a"
    path.write_text("old")
    real = getattr(os, call)

    def failing(*args, **options):
        if call == "close":
            real(*args)
        raise OSError(errno.ENOSPC, os.strerror(errno.ENOSPC))

    with monkeypatch.context() as patch:
        patch.setattr(os, call, failing)
        with pytest.raises(OSError, match=r"cannot .*: No space left on device") as caught:
            durable.write_bytes(path, b"new")
    assert caught.value.errno == errno.ENOSPC
    assert caught.value.filename.startswith(str(path))
    assert path.read_text() == "old"
    assert os.listdir(tmp_path) == ["a"]


def test_only_folders_that_cannot_be_synced_are_excused(tmp_path, monkeypatch):
    def failing(fd):
        raise OSError(code, os.strerror(code))

    monkeypatch.setattr(os, "fsync", failing)
    code = errno.EINVAL
    durable.sync_folder(tmp_path)
    with pytest.raises(OSError, match="cannot write"):
        durable.create(tmp_path / "a", b"")
    code = errno.EIO
    with pytest.raises(OSError, match="cannot sync the folder"):
        durable.sync_folder(tmp_path)


def test_remove_does_not_follow_links(tmp_path):
    (tmp_path / "folder" / "sub").mkdir(parents=True)
    (tmp_path / "link").symlink_to(tmp_path / "folder")
    durable.remove(tmp_path / "link")
    assert (tmp_path / "folder" / "sub").is_dir()
    durable.remove(tmp_path / "folder")
    assert os.listdir(tmp_path) == []
    with pytest.raises(FileNotFoundError, match="cannot remove"):
        durable.remove(tmp_path / "folder")


def test_reading_never_waits_and_is_bounded(tmp_path):
    os.mkfifo(tmp_path / "pipe")
    for path in (tmp_path / "pipe", tmp_path, "/dev/zero"):
        with pytest.raises(CheckpointError, match="not a regular file"):
            durable.read_bytes(path)
    (tmp_path / "a").write_bytes(b"12345")
    assert durable.read_bytes(tmp_path / "a", limit=5).tobytes() == b"12345"
    with pytest.raises(CheckpointError, match="5 bytes, more than the 4"):
        durable.read_bytes(tmp_path / "a", limit=4)
    with durable.open_regular(tmp_path / "a") as (file, size):  # noqa: SIM117
        with pytest.raises(CheckpointError, match="ends 2 bytes early"):
            durable.read_exactly(file, size + 2, tmp_path / "a")
    with pytest.raises(FileNotFoundError, match="cannot open: No such file") as caught:
        durable.read_bytes(tmp_path / "missing")
    assert caught.value.filename == str(tmp_path / "missing")


numbers = st.none() | st.booleans() | st.integers() | st.floats(allow_nan=False, allow_infinity=False) | st.text()
values = st.recursive(numbers, lambda inner: st.lists(inner) | st.dictionaries(st.text(), inner), max_leaves=20)


@settings(max_examples=50)
@given(values)
def test_json_comes_back_bit_for_bit(value):
    for indent in (None, 2):
        text = durable.dump_json(value, indent)
        assert text.isascii()
        back = durable.parse_json(text, "x")
        assert back == value
        assert repr(back) == repr(value)  # tells -0.0 from 0.0, 1 from 1.0 and True


def test_json_files(tmp_path):
    durable.write_json(tmp_path / "a.json", {"ä": [1, (2.5, None)]})
    assert durable.load_json(tmp_path / "a.json") == {"ä": [1, [2.5, None]]}
    with pytest.raises(CheckpointError, match="more than the 4 that"):
        durable.load_json(tmp_path / "a.json", limit=4)


@pytest.mark.parametrize(
    ("value", "error", "match"),
    [
        ({"a": [1.0, math.nan]}, ValueError, r"value\['a'\]\[1\] is nan"),
        ([math.inf], ValueError, "is inf"),
        ({"a": {2: 1}}, TypeError, r"value\['a'\] has the key 2; expected str, got int"),
        ({"a": b"x"}, TypeError, r"value\['a'\] is bytes"),
        ({1, 2}, TypeError, "is set"),
        (10**1000, ValueError, "more than 1000 digits"),
    ],
)
def test_what_strict_json_cannot_hold(value, error, match):
    with pytest.raises(error, match=match):
        durable.dump_json(value)


def test_depth_is_the_same_limit_both_ways():
    deep = [[]]
    for _ in range(30):
        deep = [deep]
    assert durable.parse_json(durable.dump_json(deep), "x") == deep
    with pytest.raises(ValueError, match="more than 32 levels"):
        durable.dump_json([deep])
    with pytest.raises(CheckpointError, match="more than 32 levels") as caught:
        durable.parse_json(json.dumps([deep]).encode(), "x")
    assert caught.value.offset == 32


@pytest.mark.parametrize(
    ("text", "what", "offset"),
    [
        (b'{"a": 1, "a": 2}', "'a' occurs twice", None),
        (b'[{"b": {"a": 1, "c": 0, "a": 1}}]', "'a' occurs twice", None),
        (b"[NaN]", "NaN is not JSON", None),
        (b"[-Infinity]", "Infinity is not JSON", None),
        (b"[1e999]", "overflows", None),
        (b"[" + b"9" * 5000 + b"]", "5000 digits", None),
        (b"", "Expecting value", 0),
        (b"[1,]", "not valid JSON", 3),
        (b'["\xc3\xa4" 1]', "Expecting ',' delimiter", 6),
        (b'{"a": 1} x', "Extra data", 9),
        (b'["\xff"]', "not UTF-8", 2),
        (b"\xef\xbb\xbf[1,]", "not valid JSON", 6),
        (b"\xff\xfe[\0]\0", "UTF-16", 0),
        (b"\xfe\xff\0[\0]", "UTF-16", 0),
        (b"<!DOCTYPE html><html>", "this is an HTML page", 0),
        (b"\x1f\x8b\x08\0", "no JSON: this is compressed by gzip", 1),
        (b"version https://git-lfs.github.com/spec/v1\noid", "no JSON: this is a git-lfs pointer", 0),
        (b'["\x00"]', "control character", 2),
        (b'["abc', "Unterminated string", 1),
        (b'["\\', "Unterminated string", 1),
        (b"[" * 100_000, "more than 32 levels", 32),
        (b'{"a":' * 100_000, "more than 32 levels", 160),
        (b'"' + b'\\"' * 1_000_000, "Unterminated string", 0),
        (b"[" + b"[]," * 300_000 + b"[]]", "more than 300000 objects", 899_998),
    ],
    ids=lambda value: repr(value)[:30],
)
def test_malformed_json(text, what, offset):
    for base in (0, 8):
        with pytest.raises(CheckpointError, match=what) as caught:
            durable.parse_json(text, "some/path", base=base)
        assert caught.value.path == "some/path"
        if offset is not None:
            assert caught.value.offset == base + offset


def test_brackets_in_strings_are_not_structure():
    text = json.dumps(["[" * 100, '"]\\"{' * 50, {"{" * 40: 1}]).encode()
    assert durable.parse_json(text, "x") == json.loads(text)


def test_a_byte_order_mark_in_front_of_json_is_passed_over(tmp_path):
    (tmp_path / "a.json").write_bytes('\ufeff{"a": [1, 2]}'.encode())
    assert durable.load_json(tmp_path / "a.json") == {"a": [1, 2]}
