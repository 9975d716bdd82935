"""What a run was trained on, as it is kept in its folder."""

from __future__ import annotations

import json

import pytest

from loopos import CheckpointError
from loopos.cli.origin import DEFAULT, NAME, Companion, Origin, named, source


def test_it_is_kept_and_read_back(tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    origin = Origin.of("a.txt", 0.1, "b.txt")
    assert origin == (str(tmp_path / "a.txt"), 0.1, str(tmp_path / "b.txt"))
    Companion(origin).on_train_begin({"output_dir": str(tmp_path)})
    assert Origin.read(str(tmp_path)) == origin
    assert Origin.read(str(tmp_path / "elsewhere")) is None


def test_the_default_text_has_a_name_no_path_has():
    assert Origin.of(None, 0, None) == (DEFAULT, 0.0, None)
    assert "help texts" in named(DEFAULT)
    assert named("/a.txt") == "/a.txt"
    assert len(source(DEFAULT)) > 100_000


@pytest.mark.parametrize("content", [[], {}, {"text": 3, "held_out": 0.1, "eval_data": None}])
def test_another_content_is_refused(content, tmp_path):
    (tmp_path / NAME).write_text(json.dumps(content))
    with pytest.raises(CheckpointError, match="expected text, held_out, eval_data"):
        Origin.read(str(tmp_path))


def test_the_message_says_how_to_go_on_only_where_something_was_saved(tmp_path):
    companion = Companion(Origin.of(None, 0, None))
    companion.on_train_begin({"output_dir": str(tmp_path)})
    companion.on_train_end({"step": 3})
    assert companion.stop_message().endswith("no checkpoint of it was saved")
    (tmp_path / "step-00000003").mkdir()
    assert f"--output-dir '{tmp_path}' --resume auto" in companion.stop_message()
