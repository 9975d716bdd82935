"""The table of families: what each says of itself holds together."""

from __future__ import annotations

from pathlib import Path

import pytest

from loopos.choices import ACTIVATIONS
from loopos.hf.families import FAMILIES


@pytest.fixture(params=FAMILIES.values(), ids=lambda family: family.model_type)
def each(request):
    return request.param


def test_the_embedding_has_the_prefix_and_the_head_has_not(each):
    assert each.embedding.startswith(each.prefix)
    assert not each.head.startswith(each.prefix)


def test_no_parameter_is_a_buffer(each):
    for files in each.names.modules.values():
        for file in files:
            for name in (f"{file}.weight", f"{each.names.block.format(0)}{file}.weight"):
                assert not each.buffers.fullmatch(name)


def test_activations_are_ours(each):
    assert set(each.activations.values()) <= set(ACTIVATIONS)
    assert len({ACTIVATIONS[ours].gated for ours in each.activations.values()}) == 1


def test_the_name_to_write_is_the_first(each):
    class Config:
        activation = None

    for ours in each.activations.values():
        Config.activation = ours
        assert each.activation(Config) == next(theirs for theirs, name in each.activations.items() if name == ours)
    Config.activation = "none of them"
    assert each.activation(Config) == next(iter(each.activations))


def test_the_page_has_a_row_for_each():
    page = (Path(__file__).resolve().parents[3] / "docs/models.md").read_text()
    table = page.partition("## Families")[2].partition("\n## ")[0]
    rows = [line.split("`")[1] for line in table.splitlines() if line.startswith("| `")]
    assert rows == list(FAMILIES)
    assert f"in the order {', '.join(FAMILIES)}" in page.replace("\n", " ")
