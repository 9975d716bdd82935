"""Batches of examples: what is shown, what is learned, from which lines."""

from __future__ import annotations

from itertools import chain

import numpy as np
import pytest
from example_tokens import LetterTokenizer

from loopos.data.examples.data import find
from loopos.data.examples.rows import ExampleRows, Examples, HeldOutExamples

IGNORE = -100
TOKENIZER = LetterTokenizer()


def records(count=40, seed=0):
    rng = np.random.default_rng(seed)
    return [
        {"prompt": "p" * int(rng.integers(1, 9)), "completion": chr(97 + i % 26) * int(rng.integers(1, 12))}
        for i in range(count)
    ]


def opened(data, seq_len=16, **kwargs):
    return Examples(find(data).stores(TOKENIZER), seq_len=seq_len, **kwargs)


def documents_of(batch):
    """(ids, targets) of each document with a target, as tuples."""
    found = []
    for ids, targets, documents in zip(*batch, strict=True):
        assert (np.diff(documents) >= 0).all()
        for number in np.unique(documents):
            here = documents == number
            if (targets[here] != IGNORE).any():
                found.append((tuple(ids[here].tolist()), tuple(targets[here].tolist())))
            else:
                assert here[-1]  # what is left of a row, at its end
                assert not ids[here].any()
    return found


def alone(data, seq_len=16, **kwargs):
    """The same documents, one a row."""
    examples, found = opened(data, seq_len, **kwargs), []
    for i in range(len(examples)):
        ids, learned = examples.tokens(i)
        if learned[1:].any():
            targets = np.where(learned[1:], ids[1:], IGNORE)
            found.append((tuple(ids[:-1].tolist()), tuple(targets.tolist())))
    return found


@pytest.mark.parametrize("seq_len", [8, 16, 40])
def test_packed_rows_hold_every_example_once_an_epoch(seq_len):
    source = ExampleRows(opened(records(), seq_len), packed=True, batch_size=1, grad_accum=1, seed=3)
    assert source.seq_len == seq_len
    for epoch in range(2):
        batches = [source.batch(epoch * source.rows + step) for step in range(source.rows)]
        parts = list(chain.from_iterable(batches))
        assert all(part.shape == (1, source.seq_len) and part.dtype == np.int64 for part in parts)
        assert sorted(chain.from_iterable(map(documents_of, batches))) == sorted(alone(records(), seq_len))
    assert source.rows < len(records()) or seq_len == 8
    assert source.steps_per_epoch == source.rows


def test_rows_of_one_example_are_filled_up():
    source = ExampleRows(opened(records(), 64), packed=False, batch_size=4, seed=3)
    found = []
    for step in range(10):
        ids, targets = source.batch(step)
        assert ids.shape == targets.shape == (4, 32)  # no more than the longest needs, in steps of 32
        for row in range(4):
            last = int(np.flatnonzero(targets[row] != IGNORE)[-1]) + 1
            assert not ids[row, last:].any()
            found.append((tuple(ids[row, :last].tolist()), tuple(targets[row, :last].tolist())))
    assert sorted(found) == sorted(alone(records(), 64))
    ids, _ = ExampleRows(opened(records(), 16), packed=False, batch_size=40).batch(0)
    assert ids.shape == (40, 16)


def test_a_prompt_is_masked_unless_asked_for():
    data = [{"prompt": "ab", "completion": "cd"}]
    ids, targets = ExampleRows(opened(data, 8), packed=False, batch_size=1).batch(0)
    text = TOKENIZER.encode("abcd<end>")
    assert ids[0].tolist() == [*text[:-1], 0, 0, 0, 0]
    assert targets[0].tolist() == [IGNORE, *text[2:], *[IGNORE] * 4]
    _, targets = ExampleRows(opened(data, 8, mask_prompt=False), packed=False, batch_size=1).batch(0)
    assert targets[0].tolist() == [*text[1:], *[IGNORE] * 4]


def test_examples_are_cut_at_their_end():
    data = [{"text": "abcdefgh"}]
    ids, targets = ExampleRows(opened(data, 5), packed=False, batch_size=1).batch(0)
    assert TOKENIZER.decode(ids[0, :4]) == "abcd"
    assert TOKENIZER.decode(targets[0, :4]) == "bcde"
    assert targets[0, 4] == IGNORE


def test_batches_are_functions_of_step_and_micro():
    first, second = (ExampleRows(opened(records()), packed=True, batch_size=3, grad_accum=2, seed=5) for _ in range(2))
    asked = [(step, micro) for step in range(8) for micro in range(2)]
    batches = {each: first.batch(*each) for each in asked}
    for each in reversed(asked):
        assert all(np.array_equal(a, b) for a, b in zip(batches[each], second.batch(*each), strict=True))
    other = ExampleRows(opened(records()), packed=True, batch_size=3, grad_accum=2, seed=6)
    assert not np.array_equal(batches[0, 0][0], other.batch(0, 0)[0])
    for step, micro in ((-1, 0), (0, 2), (0, -1)):
        with pytest.raises(ValueError, match=r"expected step >= 0 and micro from 0 to 1"):
            first.batch(step, micro)


def test_a_batch_larger_than_an_epoch():
    source = ExampleRows(opened([{"text": "ab"}] * 3), packed=False, batch_size=7)
    assert source.steps_per_epoch == 1
    assert source.batch(0)[0].shape == (7, 16)


def test_origin_names_the_lines(tmp_path):
    path = tmp_path / "a.jsonl"
    path.write_text("\n" + "".join(f'{{"text": "{c * 3}"}}\n' for c in "abcdefgh"))
    source = ExampleRows(opened(path, 40), packed=True, batch_size=1)
    assert source.rows == 1
    expected = ", ".join(f"line {number} of a.jsonl" for number in range(2, 7)) + " and 3 more"
    assert source.origin(0, 0, 0) == expected
    source = ExampleRows(opened(path, 40), packed=False, batch_size=3)
    for step in range(3):
        ids = source.batch(step)[0]
        for row in range(3):
            letter = TOKENIZER.decode(ids[row, :1])
            assert source.origin(step, 0, row) == f"line {ord(letter) - ord('a') + 2} of a.jsonl"


def test_several_files_are_one_list(tmp_path):
    pieces = []
    for i in range(3):
        pieces.append(tmp_path / f"train-0000{i}-of-00003.jsonl")
        pieces[-1].write_text("".join(f'{{"text": "{chr(97 + 3 * i + k)}"}}\n' for k in range(3)))
    examples = opened(tmp_path)
    assert "".join(TOKENIZER.decode(examples.tokens(i)[0][:1]) for i in range(9)) == "abcdefghi"
    assert examples.place(4) == "line 2 of train-00001-of-00003.jsonl"
    part = opened(tmp_path, part=(1 / 3, 0.8))
    assert "".join(TOKENIZER.decode(part.tokens(i)[0][:1]) for i in range(len(part))) == "defg"
    assert part.place(0) == "line 1 of train-00001-of-00003.jsonl"
    assert len(part.counts.tokens) == len(part.causes) == len(part.sizes) == 4


def test_parts_are_all_of_it_without_overlap():
    for count in range(1, 12):
        train, held_out = find([{"text": "ab"}] * count).split(0.1)
        stores = train.stores(TOKENIZER)
        sizes = [Examples(stores, seq_len=8, part=each.part) for each in (train, held_out)]
        assert sizes[0].first == 0
        assert sizes[0].last == sizes[1].first
        assert sizes[1].last == count


def test_fingerprints():
    def fingerprint(data, packed=True, **kwargs):
        return ExampleRows(opened(data, **kwargs), packed=packed, batch_size=2).fingerprint()

    base = fingerprint(records())
    assert base == fingerprint(records())
    assert base["kind"] == "examples"
    assert base["length"] == 40
    others = [
        fingerprint(records(seed=1)),
        fingerprint(records(), packed=False),
        fingerprint(records(), mask_prompt=False),
        fingerprint(records(), part=(0.0, 0.5)),
    ]
    assert all(other != base for other in others)
    assert others[0]["sha256"] != base["sha256"]


@pytest.mark.parametrize("packed", [True, False])
def test_evaluation_goes_through_everything_in_order(packed):
    held = HeldOutExamples(opened(records()), packed=packed, batch_size=3)
    batches = list(held)
    assert len(batches) == len(held)
    assert held.share == 1.0
    assert sum(int((batch[1] != IGNORE).sum()) for batch in batches) == int(opened(records()).counts.predicted.sum())
    if packed:
        assert sorted(chain.from_iterable(map(documents_of, batches))) == sorted(alone(records()))


def test_evaluation_of_a_part_takes_rows_at_even_distances():
    held = HeldOutExamples(opened([{"text": "abc"}] * 40, 8), packed=False, batch_size=4, tokens=30)
    assert list(held.chosen) == list(range(0, 40, 4))
    assert held.share == 0.25
    assert HeldOutExamples(opened(records()), packed=True, batch_size=4, tokens=1).share < 1


def test_nothing_to_learn():
    empty = [{"prompt": "a", "completion": ""}] * 3
    with pytest.raises(ValueError, match="data: no example has anything to learn"):
        ExampleRows(opened(empty), packed=True, batch_size=1)
    with pytest.raises(ValueError, match="eval_data: no example has anything to score"):
        HeldOutExamples(opened(empty, name="eval_data"), packed=True, batch_size=1)
    mixed = ExampleRows(opened([*empty, {"text": "ab"}, *empty]), packed=False, batch_size=1)
    assert mixed.rows == 1
    assert mixed.origin(5, 0, 0) == "record 3"
