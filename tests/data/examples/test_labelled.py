"""Texts with a label: where the target stands, the order of the classes, refusals."""

import json

import numpy as np
import pytest
from example_tokens import LetterTokenizer

from loopos.data.batches import IGNORE
from loopos.data.examples.data import require
from loopos.data.examples.labelled import names_of, read

ROWS = [{"text": "abc", "label": "yes"}, {"text": "defgh", "label": "no"}]


def of(data, **more):
    return read(require(data, "data"), LetterTokenizer(), **{"seq_len": 16} | more)


def test_the_target_stands_at_the_last_token():
    found = of(ROWS)
    assert found.labels == ("no", "yes")
    assert found.places == ["data[0]", "data[1]"]
    [((ids, targets),), _] = found.groups
    np.testing.assert_array_equal(ids, [6 + ord(c) for c in "abc"])
    np.testing.assert_array_equal(targets, [IGNORE, IGNORE, 1])
    [_, ((ids, targets),)] = of(ROWS, seq_len=4).groups  # a text that is cut still has its label
    assert len(ids) == 4
    np.testing.assert_array_equal(targets, [IGNORE, IGNORE, IGNORE, 0])


def test_files_and_columns(tmp_path):
    path = tmp_path / "rows.jsonl"
    path.write_text("\n".join(json.dumps({"text": row["text"], "kind": row["label"]}) for row in ROWS))
    assert of(path, column="kind").labels == ("no", "yes")
    table = tmp_path / "rows.csv"
    table.write_text("text,label\nabc,10\ndefgh,9\nabc,10\n")
    assert of(table).labels == ("9", "10")
    folder = tmp_path / "folder"
    folder.mkdir()
    (folder / "train.jsonl").write_text(path.read_text())
    assert len(of(folder, column="kind").groups) == 2
    first, last = require(ROWS * 5, "data").split(0.2)
    assert [len(read(part, LetterTokenizer(), seq_len=8, labels=("no", "yes")).groups) for part in (first, last)] == [
        8,
        2,
    ]


def test_the_order_of_classes():
    assert names_of(["b", "a", "b"]) == ("a", "b")
    assert names_of([10, 9, 10, 0]) == ("0", "9", "10")
    assert names_of(["10", "9"]) == ("9", "10")
    assert names_of([True, False]) == ("False", "True")
    assert of(ROWS, labels=("yes", "maybe", "no")).groups[1][0][1][-1] == 2


@pytest.mark.parametrize(
    ("rows", "message"),
    [
        ([{"text": "a", "label": "x"}], "a classifier needs two classes and more, got x alone"),
        ([{"text": "a"}, *ROWS], r"data\[0\]: expected .* got an object with 'text'; label_column"),
        ([*ROWS, {"label": "no"}], r"data\[2\]: expected"),
        ([*ROWS, {"text": "", "label": "no"}], r"data\[2\]: the text is empty"),
        ([*ROWS, {"text": 3, "label": "no"}], r"data\[2\]: text: expected a text, got 3"),
        ([*ROWS, {"text": "a", "label": 0.5}], r"data\[2\]: label: expected a name or a whole number, got 0.5"),
        ([*ROWS, {"text": "a", "label": ["no"]}], r"data\[2\]: label: expected a name"),
        ([*ROWS, 7], r"data\[2\]: expected an object such as"),
    ],
)
def test_refusals(rows, message):
    with pytest.raises(ValueError, match=message):
        of(rows)


def test_a_label_that_the_model_does_not_have():
    with pytest.raises(ValueError, match=r"data\[1\]: label must be one of yes, maybe, got 'no'"):
        of(ROWS, labels=("yes", "maybe"))
