"""loopos/data/vocabulary.py: a text is not turned in silence into ids that the weights never learned."""

import numpy as np
import pytest

import loopos
from loopos.data.tokenizer import ByteTokenizer, CharTokenizer
from loopos.data.vocabulary import padded

TEXT = "the miller had three sons. " * 20


def train(vocab_size, tokenizer=None, data=TEXT, model=loopos.Model):
    config = loopos.ModelConfig(vocab_size=vocab_size, context_length=16, n_layer=1, n_head=2, d_model=8)
    made = config if model is loopos.ModelConfig else model(config)
    return loopos.train(made, data, tokenizer=tokenizer, max_steps=1, progress=False)


@pytest.mark.parametrize("vocab_size", [128, 255, 331, 50257])
def test_a_model_of_another_vocabulary_is_told(vocab_size):
    with pytest.warns(
        UserWarning, match=rf"read as bytes, ids 0\.\.255, and the model has {vocab_size}.*tokenizer="
    ) as seen:
        train(vocab_size)
    assert len(seen) == 1


def test_a_vocabulary_made_of_the_text_is_told():
    with pytest.warns(
        UserWarning, match=rf"'chars' makes a vocabulary .*, here of {len(set(TEXT))}, and the model has 331"
    ):
        train(331, "chars")


def test_what_fits_or_is_meant_is_silent():  # warnings are errors here
    train(256)
    train(256, data=TEXT.encode())
    train(331, "bytes")
    train(331, ByteTokenizer())
    train(len(set(TEXT)), "chars")
    train(331, CharTokenizer(TEXT))
    train(331, data=np.arange(300))
    train(331, model=loopos.ModelConfig)  # nothing is learned yet: the doctor has a word on its size


@pytest.mark.parametrize(
    ("size", "tokens", "same"),
    [
        (256, 256, True),
        (50304, 50257, True),
        (51200, 50295, True),
        (151936, 151669, True),
        (320, 256, True),
        (331, 256, False),
        (50000, 256, False),
        (1024, 256, False),
        (255, 256, False),
        (331, 300, False),
    ],
)
def test_a_vocabulary_made_larger_for_speed(size, tokens, same):
    assert padded(size, tokens) is same
