"""Pairs of answers: what is compared of them, what is left out, refusals."""

import json

import numpy as np
import pytest
from example_tokens import END, LetterTokenizer

from loopos.data.batches import IGNORE
from loopos.data.examples.data import require
from loopos.data.examples.pairs import read

ROWS = [{"prompt": "ab", "chosen": "cde", "rejected": "f"}, {"prompt": "g", "chosen": "h", "rejected": "ijk"}]


def of(data, **more):
    return read(require(data, "data"), LetterTokenizer(), **{"seq_len": 16} | more)


def letters(text):
    return [6 + ord(c) for c in text]


def test_answers_are_compared_up_to_the_end_of_text():
    found = of(ROWS)
    assert found.places == ["data[0]", "data[1]"]
    assert (found.cut, found.dropped) == (0, 0)
    (ids, targets), (other, against) = found.groups[0]
    np.testing.assert_array_equal(ids, letters("abcde"))
    np.testing.assert_array_equal(targets, [IGNORE, *letters("cde"), END])
    np.testing.assert_array_equal(other, letters("abf"))
    np.testing.assert_array_equal(against, [IGNORE, *letters("f"), END])


def test_messages(tmp_path):
    user = [{"role": "user", "content": "a"}]
    say = lambda text: [{"role": "assistant", "content": text}]  # noqa: E731
    path = tmp_path / "pairs.jsonl"
    path.write_text(json.dumps({"prompt": user, "chosen": say("bc"), "rejected": say("d")}) + "\n")
    (_, targets), (_, against) = of(path, seq_len=64).groups[0]
    assert LetterTokenizer().decode(targets[targets != IGNORE]).startswith("bc")
    assert LetterTokenizer().decode(against[against != IGNORE]).startswith("d")


def test_what_is_cut_and_what_is_left_out(tmp_path):
    table = tmp_path / "pairs.csv"
    table.write_text("prompt,chosen,rejected\nab,cde,f\n" + "x" * 30 + ",y,z\nab,cdefghijklmnopqrst,f\n")
    found = of(table, seq_len=8)
    assert (len(found.groups), found.cut, found.dropped) == (2, 2, 1)
    assert found.places[1].endswith("line 4")
    assert len(found.groups[1][0][0]) == 8


@pytest.mark.parametrize(
    ("rows", "message"),
    [
        (
            [{"prompt": "a", "completion": "b"}],
            r"data\[0\]: expected .*chosen.* got an object with 'prompt, completion'",
        ),
        ([*ROWS, {"prompt": "a", "chosen": "b"}], r"data\[2\]: expected"),
        ([{"prompt": "a", "chosen": "b", "rejected": 3}], r"data\[0\]: expected prompt and completion to be two texts"),
        ([{"prompt": "x" * 40, "chosen": "b", "rejected": "c"}], "of 1 nothing of an answer is left within seq_len 16"),
    ],
)
def test_refusals(rows, message):
    with pytest.raises(ValueError, match=message):
        of(rows)
