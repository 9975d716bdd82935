"""Captions to ids and back."""

from __future__ import annotations

import pytest

from loopos.vision import Shapes, TokenVocabulary, WordVocabulary
from loopos.vision.data.vocabulary import load_vocabulary, save_vocabulary, vocabulary_from_dict, words


def test_words_are_lower_case_and_punctuation_stands_apart():
    assert words("A man's black-and-white dog, 3 cats .") == [
        "a",
        "man's",
        "black-and-white",
        "dog",
        ",",
        "3",
        "cats",
        ".",
    ]
    assert words(" \n") == []


def test_the_most_frequent_words_come_first_and_rare_ones_are_unknown():
    vocabulary = WordVocabulary.of(["a dog runs", "a cat", "A dog"], min_count=2)
    assert vocabulary.entries == ("a", "dog")
    assert vocabulary.vocab_size == 6
    assert vocabulary.encode("a cat dog") == [4, 3, 5]
    assert vocabulary.decode([1, 4, 5, 2, 5, 0]) == "a dog"


def test_captions_of_shapes_come_back_as_they_were():
    shapes = Shapes(100, captions=2)
    captions = [caption for index in range(100) for caption in shapes.captions(index)]
    vocabulary = WordVocabulary.of(captions)
    assert [vocabulary.decode(vocabulary.encode(caption)) for caption in captions] == captions


def test_bytes_have_padding_begin_and_end_behind_them(tmp_path):
    vocabulary = TokenVocabulary("bytes")
    assert (vocabulary.pad, vocabulary.bos, vocabulary.eos, vocabulary.vocab_size) == (256, 257, 258, 259)
    assert vocabulary.decode([257, *vocabulary.encode("Ein Häschen"), 258, 65]) == "Ein Häschen"
    save_vocabulary(tmp_path / "v.json", vocabulary)
    assert load_vocabulary(tmp_path / "v.json").vocab_size == 259


def test_a_vocabulary_is_kept_in_a_file(tmp_path):
    vocabulary = WordVocabulary.of(["ein Häschen , so weiß"])
    save_vocabulary(tmp_path / "v.json", vocabulary)
    assert load_vocabulary(tmp_path / "v.json") == vocabulary


class Doubles:
    vocab_size = 5

    def encode(self, text):
        return [len(word) for word in text.split()]

    def decode(self, ids):
        return " ".join("x" * each for each in ids)


def test_an_own_tokenizer_is_asked_for_again():
    vocabulary = TokenVocabulary(Doubles())
    assert vocabulary.decode([6, *vocabulary.encode("ab c"), 7]) == "xx x"
    told = vocabulary.to_dict()
    assert vocabulary_from_dict(told, Doubles()).vocab_size == 8
    with pytest.raises(ValueError, match="a tokenizer that the file does not carry; pass it again"):
        vocabulary_from_dict(told)
    with pytest.raises(ValueError, match="a tokenizer of 5 tokens, got one of 256"):
        vocabulary_from_dict(told, "bytes")


@pytest.mark.parametrize(
    ("call", "error", "says"),
    [
        (lambda: WordVocabulary(["a", "a"]), ValueError, "each word once, got 'a' more than once"),
        (lambda: WordVocabulary(["two words"]), ValueError, "one word in lower case or one sign, got 'two words'"),
        (lambda: WordVocabulary(["Dog"]), ValueError, "got 'Dog'"),
        (lambda: WordVocabulary.of(["a b"], min_count=2), ValueError, "none of the 2 words of the captions comes 2"),
        (lambda: WordVocabulary.of(["a"]).decode([5]), IndexError, r"id 5 at position 0 is outside 0..4"),
        (lambda: vocabulary_from_dict({"kind": "x"}), ValueError, "of kind 'words', 'bytes' or 'tokenizer', got"),
        (lambda: vocabulary_from_dict([]), ValueError, "expected a vocabulary"),
    ],
)
def test_refusals(call, error, says):
    with pytest.raises(error, match=says):
        call()
