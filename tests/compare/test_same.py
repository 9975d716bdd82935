"""Same start, same batches."""

from __future__ import annotations

from loopos.compare.same import same


def test_trials_that_are_alike_as_far_as_they_went():
    found = same({"a": (1, "w", ["x", "y", "z"]), "b": (1, "w", ["x"]), "c": (2, "v", ["q"])})
    assert found
    assert found.trials == 3
    assert found.seeds[1]["updates"] == 3
    assert found.seeds[1]["start"] == "w"
    assert found.seeds[1]["batches"] != found.seeds[2]["batches"]


def test_another_batch_is_named_with_its_update():
    found = same({"a": (1, "w", ["x", "y", "z"]), "b": (1, "w", ["x", "OTHER"])})
    assert not found
    assert found.differences == ["b saw another batch than a at update 2"]


def test_another_start_is_named():
    found = same({"a": (1, "w", ["x"]), "b": (1, "OTHER", ["x"])})
    assert found.differences == ["b began with other weights than a"]
    assert found.to_dict()["same"] is False
