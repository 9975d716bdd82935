"""Kinds of adapters: each goes the whole way through the one table."""

from __future__ import annotations

import pytest
from adapters import IDS, base, stir

from loopos import LoRA, Modulated
from loopos.adapters.kinds import KINDS, SPECS, kind_in, kind_of

GIVEN = {"lora": LoRA(2, targets="attention"), "modulated": Modulated(2)}


def test_each_class_that_people_write_has_one():
    assert set(SPECS) == {LoRA, Modulated} == {type(spec) for spec in GIVEN.values()}
    assert {name: kind_of(spec).name for name, spec in GIVEN.items()} == {name: name for name in KINDS}


@pytest.mark.parametrize("name", KINDS)
def test_on_a_model_into_a_folder_and_back(name, tmp_path):
    kind, spec, model = KINDS[name], GIVEN[name], base()
    parts = kind.parts_of("here", spec, model)
    assert all(type(part) is kind.part for part in parts)
    model.add_adapter(spec)
    assert model.adapter_parts == tuple(parts)
    stir(model.adapter_parameters(), seed=2)
    kind.write(tmp_path, model)
    assert kind_in(tmp_path) is kind
    found = kind.read(tmp_path, base())
    assert (found.spec, list(found.parts)) == (spec, list(parts))
    views = model.adapter_parameters()
    assert {key: array.tobytes() for key, array in found.arrays.items()} == {
        key: view.tobytes() for key, view in views.items()
    }


@pytest.mark.parametrize("name", KINDS)
def test_one_merges_or_says_why_not(name):
    model = base()
    model.add_adapter(GIVEN[name])
    before = model.forward(IDS)
    if why := KINDS[name].unmergeable:
        with pytest.raises(ValueError, match=why[:40]):
            model.merge_adapter()
        assert model.forward(IDS).tobytes() == before.tobytes()
    else:
        model.merge_adapter()
        assert model.adapter is None
