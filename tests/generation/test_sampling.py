"""Choosing tokens: greedy, cut, and in the right proportions."""

from __future__ import annotations

import numpy as np
import pytest

from loopos.generation.sampling import UniformStream, _descending, penalised, sample

LOGITS = np.log(np.array([[0.1, 0.4, 0.2, 0.3]], np.float32))


def draws(n=4000, **options):
    uniform = UniformStream(3).draw(n)
    chosen = sample(np.repeat(LOGITS, n, axis=0), uniform=uniform, **options)
    return np.bincount(chosen, minlength=4) / n


def test_greedy_takes_the_lowest_of_equals():
    logits = np.array([[1, 5, 5, 0], [2, 2, 2, 2]], np.float64)
    np.testing.assert_array_equal(sample(logits, temperature=0, uniform=np.zeros(2)), [1, 0])


def test_frequencies_are_the_probabilities():
    np.testing.assert_allclose(draws(), [0.1, 0.4, 0.2, 0.3], atol=0.03)


def test_temperature_sharpens():
    p = np.array([0.1, 0.4, 0.2, 0.3]) ** 2
    np.testing.assert_allclose(draws(temperature=0.5), p / p.sum(), atol=0.03)


def test_top_k_then_top_p():
    np.testing.assert_allclose(draws(top_k=2), [0, 4 / 7, 0, 3 / 7], atol=0.03)
    np.testing.assert_allclose(draws(top_p=0.65), [0, 4 / 7, 0, 3 / 7], atol=0.03)
    np.testing.assert_allclose(draws(top_p=0.75), [0, 4 / 9, 2 / 9, 3 / 9], atol=0.03)
    # After the cut to two, 0.4 and 0.3 are 0.57 and 0.43: a nucleus of 0.5 is the first alone.
    np.testing.assert_allclose(draws(top_k=2, top_p=0.5), [0, 1, 0, 0])
    np.testing.assert_allclose(draws(top_k=99), [0.1, 0.4, 0.2, 0.3], atol=0.03)


def test_the_ends_of_the_uniform_range_stay_inside():
    edge = np.array([0.0, 1 - 2.0**-53])
    np.testing.assert_array_equal(sample(np.repeat(LOGITS, 2, axis=0), uniform=edge), [1, 0])
    np.testing.assert_array_equal(sample(np.repeat(LOGITS, 2, axis=0), top_k=2, uniform=edge), [1, 3])


def test_uniform_stream_is_a_function_of_the_seed():
    a, b = UniformStream(5), UniformStream(5)
    np.testing.assert_array_equal(np.concatenate([a.draw(3), a.draw(5)]), b.draw(8))
    assert (UniformStream(6).draw(8) != UniformStream(5).draw(8)).any()
    numbers = UniformStream(1).draw(10000)
    assert 0 <= numbers.min() < numbers.max() < 1
    assert abs(numbers.mean() - 0.5) < 0.02


@pytest.mark.parametrize("count", [1, 2, 7, 50, 300])
def test_the_order_is_that_of_a_stable_sort(count):
    rng = np.random.default_rng(0)
    rows = np.stack([rng.integers(-5, 5, 300), rng.standard_normal(300), np.full(300, 2.0), np.arange(300.0)]).astype(
        float
    )
    rows[1, ::3] = -np.inf
    want = np.argsort(-rows, axis=-1, kind="stable")[:, :count]
    np.testing.assert_array_equal(_descending(rows, count), want)


def test_penalised_tokens():
    logits = np.array([[2.0, -3.0, 4.0, 0.0], [1.0, 1.0, -1.0, 5.0]], np.float32)
    got = penalised(logits, [np.array([0, 1, 0]), np.array([], int)], 2.0)
    np.testing.assert_array_equal(got, [[1, -6, 4, 0], [1, 1, -1, 5]])
    assert logits[0, 0] == 2.0


def test_min_p_is_a_share_of_the_most_likely():
    np.testing.assert_allclose(draws(min_p=0.6), [0, 4 / 7, 0, 3 / 7], atol=0.03)
    np.testing.assert_allclose(draws(min_p=0), [0.1, 0.4, 0.2, 0.3], atol=0.03)
    np.testing.assert_allclose(draws(min_p=1.0), [0, 1, 0, 0])
    np.testing.assert_allclose(draws(top_k=3, top_p=0.7, min_p=0.9), [0, 1, 0, 0])
