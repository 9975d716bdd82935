"""Greedy and beam search: beside the enumeration of every caption, by the forward without a cache."""

import copy
import itertools

import numpy as np
import pytest

from loopos import NonFiniteError
from loopos.config import ModelConfig
from loopos.vision import Captioner, CaptionerConfig, TokenVocabulary, VisionConfig, WordVocabulary
from loopos.vision.captioning import _largest

WORDS = WordVocabulary(["a", "b", "c"])
PICTURES = np.random.default_rng(0).integers(0, 256, (5, 8, 8, 3), dtype=np.uint8)


def captioner(vocab_size=WORDS.vocab_size, context_length=4, seed=3):
    config = CaptionerConfig(VisionConfig(8, 4, 1, 2, 16), ModelConfig(vocab_size, context_length, 2, 2, 16))
    model = Captioner(config, seed=seed, dtype="float64")
    for name, weights in model.parameters().items():
        if weights.ndim > 1 and name != "encoder.pos_embed.weight":
            weights *= 8  # far enough from uniform that pictures get captions of their own
    model.vocabulary = WORDS
    return model


def log_probability(model, picture, ids):
    logits = model.forward(picture[None], np.array([[WORDS.bos, *ids[:-1]]]))[0]
    shifted = logits - logits.max(-1, keepdims=True)
    each = shifted - np.log(np.exp(shifted).sum(-1, keepdims=True))
    return sum(each[place, token] for place, token in enumerate(ids))


@pytest.mark.parametrize("penalty", [0.0, 1.0])
def test_enough_beams_find_the_best_of_all_captions(penalty):
    model = captioner()
    got = model.caption(PICTURES, beams=200, length_penalty=penalty)
    for picture, said in zip(PICTURES, got, strict=True):
        every = [ids for count in range(4) for ids in itertools.product((4, 5, 6), repeat=count)]
        scores = [log_probability(model, picture, (*ids, WORDS.eos)) / (len(ids) + 1) ** penalty for ids in every]
        assert said == WORDS.decode(every[int(np.argmax(scores))])
    assert len(set(got)) > 1 or penalty == 0


def test_a_search_goes_on_while_a_longer_caption_may_be_better():
    model = captioner(context_length=6, seed=24)
    for name, weights in model.parameters().items():
        if name.startswith("decoder.") and weights.ndim > 1:
            weights *= 1.6  # sure of its words: the fifth costs hardly anything, and the penalty favours length
    every = [ids for count in range(6) for ids in itertools.product((4, 5, 6), repeat=count)]
    scores = [log_probability(model, PICTURES[3], (*ids, WORDS.eos)) / (len(ids) + 1) for ids in every]
    best = WORDS.decode(every[int(np.argmax(scores))])
    assert best.count(" ") == 4
    assert model.caption(PICTURES[3:4], beams=30, length_penalty=1.0) == [best]


def test_of_equal_candidates_the_lower_id_is_taken():
    assert _largest(np.array([1.0, 3.0, 3.0, 2.0, 3.0, -np.inf]), 2).tolist() == [1, 2]
    assert _largest(np.array([1.0, -np.inf]), 4).tolist() == [0, 1]


def test_two_beams_are_never_worse_than_one():
    model = captioner(context_length=6)
    scores = []
    for beams in (1, 2, 8):
        said = [WORDS.encode(text) for text in model.caption(PICTURES, beams=beams)]
        scores.append(
            [
                log_probability(model, p, (*ids, WORDS.eos))
                for p, ids in zip(PICTURES, said, strict=True)
                if len(ids) < 6
            ]
        )
    assert sum(scores[2]) >= sum(scores[1]) - 1e-9


def test_one_beam_takes_the_likeliest_token_each_time():
    model = captioner()
    for picture, said in zip(PICTURES, model.caption(PICTURES), strict=True):
        ids = [WORDS.bos]
        for _ in range(4):
            logits = model.forward(picture[None], np.array([ids]))[0, -1]
            logits[[WORDS.pad, WORDS.bos, WORDS.unknown]] = -np.inf
            ids.append(int(logits.argmax()))
            if ids[-1] == WORDS.eos or len(ids) == 5:
                break
        assert said == WORDS.decode(ids)


def test_a_caption_ends_at_max_tokens_and_with_no_picture_there_is_none():
    model = captioner()
    assert all(len(text.split()) <= 2 for text in model.caption(PICTURES, max_tokens=2))
    assert model.caption(PICTURES[:0]) == []


def test_bad_arguments_are_refused():
    model = captioner()
    for wrong in ({"beams": 0}, {"max_tokens": 5}, {"length_penalty": -1.0}):
        with pytest.raises(ValueError, match=next(iter(wrong))):
            model.caption(PICTURES, **wrong)
    model.vocabulary = None
    with pytest.raises(ValueError, match="has no vocabulary"):
        model.caption(PICTURES)
    with pytest.raises(ValueError, match="259 ids, and the model's vocab_size is 7"):
        model.vocabulary = TokenVocabulary("bytes")
    with pytest.raises(TypeError, match="expected a WordVocabulary"):
        model.vocabulary = "words"


@pytest.mark.parametrize("beams", [1, 2])
def test_a_number_that_is_not_finite_gives_no_caption_but_its_birth(beams):
    model = captioner()
    model.parameters()["encoder.blocks.0.mlp.up_proj.weight"][3, 2] = np.nan
    with pytest.raises(NonFiniteError, match=r"^Captioner\.caption: a logit is not finite") as caught:
        model.caption(PICTURES, beams=beams)
    assert (caught.value.birth.tensor, caught.value.birth.index) == ("encoder.blocks.0.mlp.up_proj.weight", (3, 2))


def test_ids_beyond_the_vocabulary_are_never_said():
    model = captioner(vocab_size=40)
    assert all(set(text.split()) <= {"a", "b", "c"} for text in model.caption(PICTURES, beams=2))


def test_the_vocabulary_travels_with_the_model(tmp_path):
    model = captioner()
    model.save(tmp_path)
    assert Captioner.load(tmp_path).caption(PICTURES, beams=3) == model.caption(PICTURES, beams=3)
    assert copy.deepcopy(model).vocabulary == WORDS
    model.vocabulary = None
    model.save(tmp_path)
    assert Captioner.load(tmp_path).vocabulary is None
