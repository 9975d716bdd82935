"""Several rows at once: each is what it is alone, with a cache as without one, until it ends."""

from __future__ import annotations

import math

import numpy as np
import pytest

import loopos

from .conftest import build, without_cache

PROMPTS = [np.random.default_rng(0).integers(0, 61, n) for n in (3, 300, 1, 17)]


@pytest.mark.parametrize("dtype", ["float32", "float64"])
@pytest.mark.parametrize("kind", ["gpt2", "llama", "window", "layers"])
def test_rows_of_unequal_length_are_what_each_is_alone(kind, dtype):
    model = build(kind, dtype)
    got = model.generate(PROMPTS, 12, temperature=0)
    assert [row.dtype for row in got] == [np.int64] * 4
    for row, prompt in zip(got, PROMPTS, strict=True):
        assert row.tolist() == without_cache(model, prompt, 12)
        assert row.tolist() == model.generate(prompt[None], 12, temperature=0)[0].tolist()


def test_padding_is_seen_by_none(model):
    core = model._core
    alone, short = [], PROMPTS[3]
    for filler in (0, 60):
        rows = np.stack([PROMPTS[1], np.r_[np.full(283, filler), short]])
        core.start_generation(2, 301, np.array([0, 283]))
        alone.append(core.next_logits(rows))
    np.testing.assert_array_equal(alone[0], alone[1])
    np.testing.assert_allclose(alone[0][1], model.forward(short[None])[0, -1], rtol=0, atol=2e-5)
    np.testing.assert_allclose(alone[0][0], model.forward(PROMPTS[1][None])[0, -1], rtol=0, atol=2e-5)


def test_a_row_ends_with_its_end_of_text_token():
    model = build()
    plain = model.generate(PROMPTS, 12, temperature=0)
    eos = int(plain[0][3 + 4])  # the fifth new token of the first row
    ends = [
        next((i for i, id in enumerate(row[len(p) :]) if id == eos), None)
        for row, p in zip(plain, PROMPTS, strict=True)
    ]
    assert ends[0] is not None
    listed = model.generate(PROMPTS, 12, temperature=0, eos=eos)
    for row, prompt, whole, end in zip(listed, PROMPTS, plain, ends, strict=True):
        assert row.tolist() == whole[: len(prompt) + (12 if end is None else end + 1)].tolist()
    same = np.stack([PROMPTS[0], PROMPTS[3][:3]])
    first, second = model.generate(same, 12, temperature=0)
    got = model.generate(same, 12, temperature=0, eos=[int(first[5]), 60])
    assert got.dtype == same.dtype
    cut = 3 + [int(id) for id in first[3:]].index(int(first[5])) + 1
    assert got[0, :cut].tolist() == first[:cut].tolist()
    assert (got[0, cut:] == int(first[5])).all()
    assert got.shape[1] <= 15
    alone = model.generate(same[:1], 12, temperature=0, eos=int(first[5]))
    assert alone.shape == (1, cut)  # the array ends when all rows have
    assert second.shape == (15,)


def test_stop_sequences_of_ids():
    model = build()
    (row,) = model.generate(PROMPTS[:1], 12, temperature=0)
    new = [int(id) for id in row[3:]]
    (got,) = model.generate(PROMPTS[:1], 12, temperature=0, stop=[new[2:5]])
    at = next(i for i in range(10) if new[i : i + 3] == new[2:5])
    assert got[3:].tolist() == new[: at + 3]
    (flat,) = model.generate(PROMPTS[:1], 12, temperature=0, stop=new[2:5])
    assert flat.tolist() == got.tolist()
    # The prompt does not count, and neither does a sequence that begins in it.
    (crossing,) = model.generate(PROMPTS[:1], 12, temperature=0, stop=[[int(row[2]), new[0], 60]])
    assert len(crossing) == 15
    filled = model.generate(np.stack([PROMPTS[0], PROMPTS[3][:3]]), 12, temperature=0, stop=[new[2:5]])
    if filled.shape[1] == 15:
        assert (filled[0, 3 + at + 3 :] == new[at + 2]).all()


def test_stop_strings_need_a_tokenizer_and_cross_tokens(letters, monkeypatch):
    model = build()
    with pytest.raises(ValueError, match=r"stop has the string 'a', and there is no tokenizer"):
        model.generate(PROMPTS[:1], 2, stop="a")
    monkeypatch.setattr(type(model), "tokenizer", letters)
    (row,) = model.generate(PROMPTS[:1], 12, temperature=0)
    text = letters.decode(row[3:])
    (got,) = model.generate(PROMPTS[:1], 12, temperature=0, stop=["never", text[3:6]])
    assert got[3:].tolist() == row[3 : 3 + text.index(text[3:6]) + 3].tolist()


def test_penalty_and_min_p_reach_the_choice():
    model = build()
    plain = model.generate(PROMPTS[:1], 40, temperature=0)[0]
    other = model.generate(PROMPTS[:1], 40, temperature=0, repetition_penalty=1e9)[0]
    new = other[3:].tolist()
    assert len(set(new)) == 40  # nothing twice while there is another token
    assert not set(new) & set(PROMPTS[0].tolist())
    assert other.tolist() != plain.tolist()
    sampled = model.generate(PROMPTS[:1], 40, temperature=2.0, min_p=1.0, seed=5)[0]
    assert sampled.tolist() == plain.tolist()


def test_without_rows_tokens_or_room():
    model = build(context_length=20)
    assert model.generate([], 3) == []
    assert model.generate(np.zeros((0, 4), np.int32), 3, eos=1).shape[0] == 0
    assert [row.tolist() for row in model.generate([np.array([1, 2]), np.array([3])], 0)] == [[1, 2], [3]]
    one = np.array([[1, 2]], np.int32)
    assert model.generate(one, 18).shape == (1, 20)
    with pytest.raises(ValueError, match="3 prompt tokens and 18 new ones do not fit the context_length 20"):
        model.generate([np.array([1]), np.array([1, 2, 3])], 18)


@pytest.mark.parametrize(
    ("given", "error", "words"),
    [
        ({"ids": [np.array([1]), np.array([[1]])]}, ValueError, r"ids\[1\] must have shape \(T,\) with T >= 1"),
        ({"ids": [np.array([1]), np.array([], int)]}, ValueError, r"ids\[1\] must have shape"),
        (
            {"ids": [np.array([1]), np.array([1, 61])]},
            IndexError,
            r"ids\[1\] must be from 0 to 60, got 61 at position \[1\]",
        ),
        ({"ids": [[1, 2]]}, TypeError, r"ids\[0\] must be a numpy array of int32 or int64"),
        ({"min_p": 1.5}, ValueError, "min_p"),
        ({"min_p": "x"}, TypeError, "min_p"),
        ({"repetition_penalty": 0}, ValueError, "repetition_penalty"),
        ({"repetition_penalty": math.nan}, ValueError, "repetition_penalty"),
        ({"eos": 61}, ValueError, "eos must be"),
        ({"eos": [1, True]}, TypeError, "eos must be"),
        ({"stop": [[]]}, ValueError, "empty string or sequence"),
        ({"stop": 3}, TypeError, "stop must be a string, a sequence of ids or a list of such"),
        ({"stop": [[1, 99]]}, ValueError, "stop must be"),
    ],
    ids=str,
)
def test_refusals(given, error, words):
    with pytest.raises(error, match=f"^Model.generate: .*{words}"):
        build().generate(**({"ids": np.array([[1, 2]]), "max_new_tokens": 2} | given))


def test_a_row_whose_logits_are_not_finite_is_named():
    model = build()
    model.parameters()["tok_embed.weight"][7, 3] = math.nan
    with pytest.raises(loopos.NonFiniteError, match="no token can be chosen"):
        model.generate([np.array([1, 2]), np.array([1, 7, 2])], 3)
