"""Parquet files, written by pyarrow."""

from __future__ import annotations

import builtins

import pytest

from loopos.data.examples.forms import example_of
from loopos.data.examples.records import records

pyarrow = pytest.importorskip("pyarrow", reason="reads Parquet (extra [data])")
parquet = pytest.importorskip("pyarrow.parquet", reason="reads Parquet (extra [data])")


def written(tmp_path, columns):
    path = tmp_path / "a.parquet"
    parquet.write_table(pyarrow.table(columns), path)
    return path


def test_rows(tmp_path):
    turns = [[{"role": "user", "content": "a"}, {"role": "assistant", "content": "b"}]] * 300
    path = written(tmp_path, {"messages": turns, "other": list(range(300))})
    seen = []
    found = list(records(path, "data", seen.append))
    assert [number for number, _ in found] == list(range(1, 301))
    assert found[299][1] == {"messages": turns[0]}
    assert example_of(found[0][1], "row 1").messages == turns[0]
    assert sum(seen) <= path.stat().st_size
    assert len(seen) == 2


def test_shares_hold_every_row_once(tmp_path):
    path = tmp_path / "a.parquet"
    parquet.write_table(pyarrow.table({"text": [f"{i}" for i in range(700)]}), path, row_group_size=150)
    whole = list(records(path, "data"))
    for of in (1, 2, 3, 11):
        assert [each for index in range(of) for each in records(path, "data", None, (index, of))] == whole
    assert list(records(written(tmp_path, {"text": ["a"]}), "data", None, (0, 3))) == []


def test_no_column_of_an_example(tmp_path):
    with pytest.raises(ValueError, match=r"data: expected columns for .* got the columns 'a, b'"):
        list(records(written(tmp_path, {"a": [1], "b": [2]}), "data"))


def test_what_is_no_parquet(tmp_path):
    path = tmp_path / "a.parquet"
    path.write_text('{"text": "a"}\n' * 20)
    with pytest.raises(ValueError, match="data: expected a Parquet file, got one that pyarrow cannot read"):
        list(records(path, "data"))


@pytest.mark.parametrize(
    ("content", "kind"),
    [
        (b"version https://git-lfs.github.com/spec/v1\noid sha256:" + b"4d" * 32 + b"\nsize 9\n", "a git-lfs pointer"),
        (b"<!DOCTYPE html><html><body>Sign in" + b" " * 900, "an HTML page"),
        (b"\x1f\x8b\x08" + bytes(range(256)) * 9, "compressed by gzip"),
    ],
)
def test_what_is_something_else_is_told_by_its_kind(tmp_path, content, kind):
    path = tmp_path / "a.parquet"
    path.write_bytes(content)
    with pytest.raises(ValueError, match=f"data: expected a Parquet file; this is {kind}"):
        list(records(path, "data"))


def test_a_damaged_file(tmp_path):
    path = written(tmp_path, {"text": [f"{i} words" for i in range(1000)]})
    content = bytearray(path.read_bytes())
    content[10:200] = bytes(190)
    path.write_bytes(content)
    with pytest.raises(ValueError, match=r"data: expected a Parquet file"):
        list(records(path, "data"))


def test_the_extra_is_named(tmp_path, monkeypatch):
    path, real = written(tmp_path, {"text": ["a"]}), builtins.__import__

    def without(name, *args, **kwargs):
        if name.partition(".")[0] == "pyarrow":
            raise ImportError(name)
        return real(name, *args, **kwargs)

    monkeypatch.setattr(builtins, "__import__", without)
    with pytest.raises(ImportError, match=r"pip install 'loopos\[data\]'"):
        list(records(path, "data"))
