"""What is taken for examples, and their tokens."""

from __future__ import annotations

import json

import pytest
from example_tokens import LetterTokenizer

from loopos.data.examples.data import ExampleData, digest_of, find, require
from loopos.data.tokenizer import ByteTokenizer, CharTokenizer

RECORDS = [{"text": "ab"}, {"prompt": "c", "completion": "d"}]


def written(path, records=RECORDS):
    path.write_text("".join(json.dumps(record) + "\n" for record in records))
    return path


def texts(data, tokenizer=None):
    tokenizer = tokenizer or LetterTokenizer()
    decoded = []
    for store in data.stores(tokenizer):
        for i in range(len(store)):
            coded = store.tokens(i, 99)
            decoded.append(tokenizer.decode([t if t >= 0 else ~t for t in coded]))
    return decoded


def test_files_and_lists(tmp_path):
    path = written(tmp_path / "a.jsonl")
    for data in (path, str(path), RECORDS, tuple(RECORDS), find(path)):
        assert texts(find(data)) == ["ab<end>", "cd<end>"]


def test_a_folder(tmp_path):
    for part in ("train", "valid", "test"):
        written(tmp_path / f"{part}.jsonl", [{"text": part}])
    for data in (tmp_path, str(tmp_path)):
        found = find(data)
        assert texts(found) == ["train<end>"]
        assert texts(found.held_out()) == ["valid<end>"]
        assert found.held_out().name == "eval_data"
    assert find(tmp_path / "valid.jsonl").held_out() is None


@pytest.mark.parametrize("data", ["a text", "", "a\0b", "x" * 10_000, b"bytes", [1, 2], [], ["a"], 5, None, object()])
def test_what_is_no_examples(data):
    assert find(data) is None


def test_what_is_no_file(tmp_path):
    assert find(tmp_path / "missing.jsonl") is None
    assert find(tmp_path / "a.txt") is None
    assert find(tmp_path) is None
    with pytest.raises(TypeError, match=r"audit: expected examples: .* a folder with train\.jsonl, .* got .*Path"):
        require(tmp_path, "audit")
    with pytest.raises(TypeError, match=r"audit: expected examples: a \.jsonl"):
        require("a text", "audit")


def test_split():
    train, held_out = ExampleData((), records=RECORDS, valid=()).split(0.25)
    assert (train.part, held_out.part) == ((0.0, 0.75), (0.75, 1.0))
    assert held_out.split(0.5)[1].part == (0.875, 1.0)
    assert held_out.name == "eval_data"


def test_errors_name_file_and_place(tmp_path):
    path = written(tmp_path / "a.jsonl", [*RECORDS, {"text": 5}])
    with pytest.raises(ValueError, match=r"data \(file .*a\.jsonl\), line 3: text: expected a text, got 5"):
        find(path).stores(LetterTokenizer())
    with pytest.raises(ValueError, match=r"data\[2\]: text: expected a text, got 5"):
        find([*RECORDS, {"text": 5}]).stores(LetterTokenizer())


def test_a_bar_for_a_large_file_alone(tmp_path, capsys, monkeypatch):
    path = written(tmp_path / "a.jsonl", RECORDS * 100)
    find(path).stores(LetterTokenizer(), progress=True)
    assert capsys.readouterr().err == ""
    monkeypatch.setattr("loopos.data.examples.data.KEPT_FROM", 100)
    find(path).stores(LetterTokenizer(), progress=True)
    assert "tokens of a.jsonl: 100%" in capsys.readouterr().err
    find(path).stores(LetterTokenizer())
    assert capsys.readouterr().err == ""


def test_digests_tell_tokenizers_apart():
    class Filed(LetterTokenizer):
        def __init__(self, template):
            self.template = template

        def files(self):
            return {"tokenizer.json": b"{}", "chat_template.jinja": self.template}

    digests = [
        digest_of(each)
        for each in (
            ByteTokenizer(),
            CharTokenizer("ab"),
            CharTokenizer("abc"),
            LetterTokenizer(),
            Filed(b"a"),
            Filed(b"b"),
        )
    ]
    assert len(set(digests)) == len(digests)
    assert digest_of(LetterTokenizer(eos=None)) != digest_of(LetterTokenizer())
    assert digest_of(Filed(b"a")) == digest_of(Filed(b"a"))
    assert digest_of(object()) is None


def test_lists_of_other_content_have_other_digests():
    digests = [find(each).stores(LetterTokenizer())[0].digest for each in (RECORDS, RECORDS[:1], [{"text": "ab"}] * 2)]
    assert len(set(digests)) == 3
