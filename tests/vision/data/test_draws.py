"""Random numbers by the place where they are used."""

from __future__ import annotations

from loopos.vision.data import draws


def test_numbers_depend_on_every_part_of_the_key_and_on_nothing_else():
    keys = [(draws.SCENE, 1, 2, 3), (draws.NOISE, 1, 2, 3), (draws.SCENE, 0, 2, 3), (draws.SCENE, 1, 3, 3)]
    keys += [(draws.SCENE, 1, 2, 4), (draws.SCENE, 2, 1, 3)]
    drawn = [tuple(draws.raw(4, *key).tolist()) for key in keys]
    assert len(set(drawn)) == len(keys)
    assert tuple(draws.raw(4, *keys[0]).tolist()) == drawn[0]
    assert tuple(draws.raw(2, *keys[0]).tolist()) == drawn[0][:2]


def test_the_bits_are_kept():
    assert draws.raw(2, draws.SCENE, 1337, 0).tolist() == [5982420896120631438, 17393766782935811329]


def test_numbers_below_bounds():
    rolled = [draws.below([6, 2], draws.CAPTION, 1, index) for index in range(600)]
    assert {first for first, _ in rolled} == set(range(6))
    assert 250 < sum(second for _, second in rolled) < 350
