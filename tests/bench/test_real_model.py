"""Where `loopos bench real` finds a model."""

from __future__ import annotations

import pytest

import loopos
from loopos.bench import real_model
from loopos.bench.settings import TINY


def test_a_setting_is_a_model_at_random(tmp_path):
    folder, name = real_model.folder(tmp_path, [TINY["tiny"]], None)
    assert name == "tiny, random weights"
    assert loopos.Model.from_pretrained(folder).config == TINY["tiny"].config


def test_the_package_is_found_and_not_imported(tmp_path, monkeypatch):
    package = tmp_path / real_model.PACKAGE
    package.mkdir()
    (package / "__init__.py").write_text("raise ImportError('imported')")
    monkeypatch.syspath_prepend(tmp_path)
    assert real_model.packaged() is None
    (package / "model.gguf").touch()
    assert real_model.packaged() == package / "model.gguf"


def test_without_a_model_it_says_where_one_comes_from(tmp_path, without):
    without(real_model.PACKAGE)
    with pytest.raises(ValueError, match="--model FOLDER, or the package that has one"):
        real_model.folder(tmp_path, [], None)


def test_a_format_that_cannot_be_written_is_a_reason(tmp_path):
    model = loopos.Model(TINY["tiny"].config)
    assert real_model.export(model, tmp_path, "q9_9").startswith("no q9_9.gguf: ")
