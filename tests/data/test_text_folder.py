"""Text streamed from a folder: every piece once an epoch, whole characters, rows that are not full, refusals."""

from __future__ import annotations

import numpy as np
import pytest

import loopos
from loopos.data.text_folder import TextFolder
from loopos.data.tokenizer import ByteTokenizer

BYTES = ByteTokenizer()


@pytest.fixture
def folder(tmp_path):
    (tmp_path / "b").mkdir()
    (tmp_path / "a.txt").write_bytes(bytes(range(32, 127)) * 3)  # 285 bytes
    (tmp_path / "b/c.md").write_bytes(b"xyz " * 40)  # 160
    (tmp_path / "b/d.csv").write_bytes(b"no text")
    return tmp_path


def opened(folder, **more):
    return TextFolder(folder, BYTES, **{"seq_len": 9, "batch_size": 2, "grad_accum": 2, "seed": 3, **more})


def test_every_piece_comes_once_an_epoch_in_an_order_of_its_own(folder):
    data = opened(folder)
    assert data.pieces == 7 + 4  # 40 bytes each; the 5 left of the first file are less than a quarter of that
    assert len(data) == 3
    texts = [data.text(piece) for piece in range(data.pieces)]
    assert "".join(texts[:7]) == (bytes(range(32, 127)) * 3).decode()[:280]
    assert texts[7:] == ["xyz " * 10] * 4
    rows = [
        bytes(row).decode()
        for step in range(6)
        for micro in (0, 1)
        for row in data.batch(step, micro)[0].astype(np.uint8)
    ]
    first, second = rows[:11], rows[11:22]
    assert sorted(first) == sorted(second) == sorted(text[:9] for text in texts)
    assert first != second


def test_a_batch_is_a_function_of_step_and_micro_alone(folder):
    one, other = opened(folder), opened(folder)
    other.batch(0, 0)
    for got, want in zip(one.batch(2, 1), other.batch(2, 1), strict=True):
        np.testing.assert_array_equal(got, want)
    ids, targets = one.batch(0, 0)
    assert ids.dtype == targets.dtype == np.int64
    np.testing.assert_array_equal(ids[:, 1:], targets[:, :-1])


def test_characters_stay_whole(tmp_path):
    text = "aä€😀" * 50
    (tmp_path / "a.txt").write_text(text, encoding="utf-8")
    for seq_len in (3, 4, 5, 6, 7):
        data = opened(tmp_path, seq_len=seq_len)
        found = "".join(data.text(piece) for piece in range(data.pieces))
        assert text.startswith(found)
        assert len(found) > 0.9 * len(text)


def test_a_row_that_is_not_full_ends_with_ignored_targets(tmp_path):
    (tmp_path / "a.txt").write_bytes(b"0123456789ab")

    class Words:
        def encode(self, text):
            return list(range(len(text) // 4))

    data = TextFolder(tmp_path, Words(), seq_len=5, seed=0)
    ids, targets = data.batch(0, 0)
    np.testing.assert_array_equal(ids, [[0, 1, 0, 0, 0]])
    np.testing.assert_array_equal(targets, [[1, 2, -100, -100, -100]])
    for few in ([], [3]):  # of which nothing can be learned
        Words.encode = lambda self, text, few=few: few
        ids, targets = data.batch(0, 0)
        np.testing.assert_array_equal(ids, [[0] * 5])
        np.testing.assert_array_equal(targets, [[-100] * 5])


def test_it_trains(folder):
    config = loopos.ModelConfig(vocab_size=256, context_length=16, n_layer=1, n_head=2, d_model=16)
    result = loopos.train(config, opened(folder), max_steps=4, grad_accum=2, progress=False, log_every=1)
    assert result.history[0]["valid_tokens"] == 2 * 2 * 9


def test_refusals(folder, tmp_path):
    with pytest.raises(FileNotFoundError, match="streaming reads a folder of text files, and there is none"):
        opened(tmp_path / "absent")
    (tmp_path / "empty").mkdir()
    with pytest.raises(ValueError, match=r"streaming reads \.md, \.text, \.txt files, and it has none"):
        opened(tmp_path / "empty")
    with pytest.raises(ValueError, match="none of its 2 text files has the 1001 bytes"):
        opened(folder, seq_len=1000)
    (folder / "z.txt").write_bytes(b"\xff\xfe" + "text".encode("utf-16-le"))
    with pytest.raises(ValueError, match=r"z\.txt\): expected text in UTF-8; this is UTF-16"):
        opened(folder)
    (folder / "z.txt").write_bytes(b"a" * 45 + b"\xff" * 50)
    data = opened(folder)
    with pytest.raises(ValueError, match=r"z\.txt\): byte 45 is not UTF-8"):
        data.text(data.pieces - 2)
    with pytest.raises(ValueError, match="TextFolder: seq_len"):
        opened(folder, seq_len=0)
