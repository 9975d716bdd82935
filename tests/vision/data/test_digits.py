"""scikit-learn's digits as pictures."""

from __future__ import annotations

import numpy as np
import pytest

from loopos.vision import Digits

pytest.importorskip("sklearn", reason="needs the extra [sklearn]")


def test_pictures_are_the_points_made_larger():
    from sklearn.datasets import load_digits

    digits, small = Digits(), Digits(8)
    given = load_digits()
    for index in (0, 3, 1796):
        image = digits.image(index)
        assert image.dtype == np.uint8
        assert image.shape == (32, 32, 3)
        assert np.array_equal(image[::4, ::4, 1], small.image(index)[..., 0])
        assert np.array_equal(image, image[::4, ::4].repeat(4, 0).repeat(4, 1))
        assert np.array_equal(small.image(index)[..., 2], given.images[index] * 255 // 16)
        assert digits.labels[index] == given.target[index]
    assert max(small.image(index).max() for index in range(50)) == 255


def test_captions_are_the_labels_in_words():
    digits = Digits()
    said = {digits.captions(index)[0] for index in range(60)}
    assert said == {f"a {n}" for n in ["zero", "one", "two", "three", "four", "five", "six", "seven", "nine"]} | {
        "an eight"
    }
    assert digits.labels[5] == 5
    assert digits.captions(5) == ("a five",)


def test_a_fifth_is_held_out_and_has_every_digit():
    digits = Digits()
    train, test = digits.part("train"), digits.part("test")
    assert len(test) == 355
    assert sorted([*train.numbers, *test.numbers]) == list(range(1797))
    assert set(np.bincount(test.labels)) <= {34, 35, 36}
    assert test.labels[3] == digits.labels[test.numbers[3]]
    assert test.images().shape == (355, 32, 32, 3)
    assert np.array_equal(test.images()[3], digits.image(int(test.numbers[3])))


def test_a_subset_is_spread_over_the_writers_and_has_every_digit_in_both_parts():
    all_, some = Digits(8), Digits(8, 100)
    assert len(Digits(8, 1797)) == len(Digits(8, 5000)) == 1797
    chosen = np.arange(100) * 1797 // 100
    assert np.array_equal(some.labels, all_.labels[chosen])
    assert np.array_equal(some.image(99), all_.image(int(chosen[99])))
    for part in some.parts:
        assert set(some.part(part).labels) == set(range(10))
    assert some.fingerprint() != all_.fingerprint()
    with pytest.raises(ValueError, match="n must be an integer of at least 100, got 99"):
        Digits(8, 99)


def test_refusals(monkeypatch):
    with pytest.raises(ValueError, match="image_size must be a multiple of 8, got 28"):
        Digits(28)
    with pytest.raises(ValueError, match="part must be one of 'train', 'test', got 'valid'"):
        Digits().part("valid")
    monkeypatch.setitem(__import__("sys").modules, "sklearn.datasets", None)
    with pytest.raises(ImportError, match=r"pip install 'loopos\[sklearn\]'"):
        Digits()
