"""The fingerprint of a base: every number counts, the adapter does not."""

from __future__ import annotations

import numpy as np
import pytest
from adapters import adapted, base

import loopos
from loopos import LoRA
from loopos.adapters.base import Base


def test_the_adapter_is_no_part_of_it():
    plain, with_one = base(), adapted(LoRA(2))
    assert Base.of(plain) == Base.of(with_one)
    assert Base.of(plain)[:3] == (None, "float32", "float32")


def test_every_number_and_every_shape_counts():
    model = base()
    before, seen = Base.of(model).sha256, set()
    for view in model.parameters().values():
        kept = view.flat[-1]
        view.flat[-1] = np.nextafter(kept, np.float32(9))
        seen.add(Base.of(model).sha256)
        view.flat[-1] = kept
    assert len(seen) == len(model.parameters())
    assert before not in seen
    assert Base.of(model).sha256 == before


@pytest.mark.parametrize("weights", ["bfloat16", "int8", "int4"])
def test_of_what_is_stored_small_the_bytes_count(weights):
    one, same, other = (loopos.Model(base().config, seed=seed, weights=weights) for seed in (1, 1, 2))
    assert Base.of(one).same_numbers(Base.of(same)) is True
    assert Base.of(one).same_numbers(Base.of(other)) is False
    small = {name: one._core.get_stored(name) for name in ("blocks.1.mlp.down_proj.weight",)}
    other = loopos.Model(base().config, seed=1, weights=weights)
    ((name, (numbers, *rest)),) = small.items()
    numbers[-1] ^= 1
    other._core.set_stored(name, (numbers, *rest))
    assert Base.of(one).same_numbers(Base.of(other)) is False


def test_other_types_cannot_be_compared():
    one, other = base(), base(dtype="float64")
    assert Base.of(one).same_numbers(Base.of(other)) is None


@pytest.mark.parametrize(
    "values", [None, {}, {"folder": 3, "dtype": "a", "weights": "b", "sha256": "c"}, {"folder": None, "dtype": 1}]
)
def test_what_is_no_base_is_refused(values):
    with pytest.raises((TypeError, ValueError, LookupError)):
        Base.from_dict(values)
    base = Base("/x", "float32", "int8", "0")
    assert Base.from_dict(base._asdict()) == base
