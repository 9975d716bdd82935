"""Beams: orthogonal, real answers, rows that move with the source and do not read order or phase; directions inside."""

from __future__ import annotations

import numpy as np
import pytest
from snapshots import samples

from loopos.covariance.beams import COMPRESSED, _beams, beam_rows, channels, reaches, steering

LINE, PLANE = (1, 8), (4, 6)


def wave(shape, w, length=1):
    """Snapshots (1, L, N) of one wave of phases w = (up, across), of amplitude 1."""
    up, across = (np.exp(1j * phase * np.arange(n)) for n, phase in zip(shape, w, strict=True))
    return np.repeat(np.outer(up, across).reshape(1, 1, -1), length, axis=1)


def test_beams_are_orthogonal_and_answer_a_wave_with_real_numbers():
    beams = _beams(8, 0)
    np.testing.assert_allclose(beams.conj().T @ beams, np.eye(8), atol=1e-14)
    middle = np.exp(1j * 0.7 * (np.arange(8) - 3.5))
    assert np.abs((middle @ beams).imag).max() < 1e-14


@pytest.mark.parametrize(("shape", "reach"), [(LINE, 2), (PLANE, 1), (PLANE, 99), ((3, 3), 1)])
def test_rows_are_products_of_beams(shape, reach):
    """Against the definition, with steering vectors one by one."""
    x = samples(2, 5, shape[0] * shape[1])
    reach_up, reach_across = reaches(shape, reach)
    got = beam_rows(x, shape, reach)
    assert got.shape == (2, shape[0] * shape[1], channels(shape, reach))
    centred = [np.arange(n) - (n - 1) / 2 for n in shape]

    def y(row, column):
        phases = [2 * np.pi * (k + 0.5) / n - np.pi if n > 1 else 0 for k, n in zip((row, column), shape, strict=True)]
        up, across = (np.exp(1j * p * c) for p, c in zip(phases, centred, strict=True))
        return x @ np.outer(up, across).ravel().conj() / np.sqrt(len(x[0, 0]))

    at = 0
    for i in range(-reach_up, reach_up + 1):
        for j in range(-reach_across, reach_across + 1):
            for row in range(shape[0]):
                for column in range(shape[1]):
                    want = (y(row, column).conj() * y(row + i, column + j)).mean(axis=1)
                    want = want / np.sqrt(np.abs(want) + COMPRESSED)
                    half = got.shape[2] // 2
                    g = row * shape[1] + column
                    np.testing.assert_allclose(got[:, g, at] + 1j * got[:, g, half + at], want, atol=1e-12)
            at += 1


def test_rows_move_with_the_source():
    """By one beam along an axis: the same rows, one place further on, the first one in the last one's place."""
    one = 2 * np.pi / 6
    first, second = (beam_rows(wave(PLANE, (0.3, w)), PLANE, 1).reshape(4, 6, -1) for w in (-0.4, -0.4 + one))
    np.testing.assert_allclose(second, np.roll(first, 1, axis=1), atol=1e-12)


def test_neither_order_nor_phase_of_the_snapshots_is_read():
    x = samples(2, 5, 24)
    want = beam_rows(x, PLANE, 1)
    turned = x[:, ::-1] * np.exp(1j * np.arange(5))[:, None]
    np.testing.assert_allclose(beam_rows(turned, PLANE, 1), want, atol=1e-12)
    assert beam_rows(x.astype(np.complex64), PLANE, 1).dtype == np.float32


@pytest.mark.parametrize(("shape", "points", "count"), [(LINE, 4, 32), (PLANE, 2, 96), ((1, 1), 3, 1)])
def test_directions_are_even_over_all_phases_and_beam_by_beam(shape, points, count):
    vectors = steering(shape, points)
    assert vectors.shape == (count, shape[0] * shape[1])
    np.testing.assert_allclose(np.abs(vectors), 1)
    np.testing.assert_allclose(vectors.conj().T @ vectors / count, np.eye(len(vectors[0])), atol=1e-12)
    powers = np.abs(vectors @ np.kron(*(_beams(n, 0) for n in shape))) ** 2  # (G, beams)
    np.testing.assert_array_equal(
        powers.argmax(axis=1), np.repeat(np.arange(len(vectors[0])), count // len(vectors[0]))
    )
    with pytest.raises(ValueError, match="read-only"):
        vectors[0, 0] = 0
