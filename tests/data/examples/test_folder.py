"""Folders with train, valid and test."""

from __future__ import annotations

import pytest

from loopos.data.examples.folder import splits


def names(tmp_path, *files):
    for file in files:
        (tmp_path / file).parent.mkdir(exist_ok=True)
        (tmp_path / file).touch()
    found = splits(tmp_path)
    return found and [[path.relative_to(tmp_path).as_posix() for path in part] for part in found]


def test_parts(tmp_path):
    assert names(tmp_path, "train.jsonl", "valid.jsonl", "test.jsonl", "README.md") == [
        ["train.jsonl"],
        ["valid.jsonl"],
        ["test.jsonl"],
    ]


def test_other_spellings(tmp_path):
    assert names(tmp_path, "Train.CSV", "validation.parquet") == [["Train.CSV"], ["validation.parquet"], []]


def test_pieces(tmp_path):
    pieces = [f"data/train-0000{i}-of-00003.parquet" for i in range(3)]
    assert names(tmp_path, *reversed(pieces), "data/test-00000-of-00001.parquet")[0] == pieces


def test_nothing_of_that_name(tmp_path):
    assert names(tmp_path, "training.jsonl", "train.txt", "train.jsonl.bak") is None


@pytest.mark.parametrize(
    ("files", "message"),
    [
        (["valid.jsonl"], "expected a file train.jsonl beside valid.jsonl, got none"),
        (["train.jsonl", "train.csv"], "expected one file of train examples, got train.csv, train.jsonl"),
        (["train.jsonl", "valid.jsonl", "validation.jsonl"], "expected one file of valid examples"),
        (["train-00000-of-00003.parquet", "train-00002-of-00003.parquet"], r"expected 3 pieces .* missing: \[1\]"),
    ],
)
def test_what_is_ambiguous_or_missing_is_refused(tmp_path, files, message):
    with pytest.raises(ValueError, match=message):
        names(tmp_path, *files)
