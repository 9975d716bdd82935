"""What the processes of a run have in common, and how many shards it has."""

from __future__ import annotations

from types import SimpleNamespace

import pytest

import loopos
from loopos.run.alike import alike, in_shards, read_alike, tell_idle
from loopos.run.resume import Identity
from loopos.training import default_settings


def test_shards_of_a_run():
    asked = default_settings(batch_size=12)
    assert in_shards(asked, False, 1).shards == 1
    assert in_shards(asked, True, 2).shards == 8
    assert in_shards(default_settings(batch_size=3), True, 2).shards == 3
    assert in_shards(default_settings(shards=5), False, 1).shards == 5
    saved = SimpleNamespace(state={"settings": {"shards": 4}})
    assert in_shards(asked, True, 2, saved).shards == 4
    assert in_shards(asked, True, 1, SimpleNamespace(state={"settings": {}})).shards == 1  # of before there were any


def test_more_ranks_than_shards_are_refused():
    with pytest.raises(ValueError, match=r"9 ranks share the shards of a batch, .* is cut into 8: start fewer"):
        in_shards(default_settings(), True, 9)
    with pytest.raises(ValueError, match="the checkpoint's run has 1"):
        in_shards(default_settings(), True, 2, SimpleNamespace(state={"settings": {}}))


def test_ranks_that_would_never_have_a_row_are_told():
    four = SimpleNamespace(batch_size=4)
    asked = default_settings(shards=8)
    with pytest.warns(UserWarning, match=r"of 4 rows in 8 shards ranks 0, 2, 4, 6 never have one, .* start 4 ranks"):
        tell_idle(asked, four, 8)
    with pytest.warns(UserWarning, match=r"rank 0 never has one, and computes nothing: start 2 ranks, or"):
        tell_idle(default_settings(shards=3), SimpleNamespace(batch_size=2), 3)
    with pytest.warns(UserWarning, match=r"rank 0 never has one, and computes nothing: start 1 rank, or"):
        tell_idle(default_settings(shards=2), SimpleNamespace(batch_size=1), 2)
    tell_idle(asked, four, 4)  # shards are empty, no rank is
    tell_idle(asked, SimpleNamespace(), 8)  # a user's object: each batch has the size it has


def test_what_must_be_alike_names_what_may_differ():
    config = loopos.ModelConfig(vocab_size=11, context_length=8, n_layer=1, n_head=2, d_model=8)
    model = loopos.Model(config, seed=1)
    identity = Identity(config, default_settings(), 8, {"sha256": "0123456789abcdef" * 4}, None)
    facts = alike(model, identity)
    assert {"isa", "loopos", "products", "learning_rate (settings)", "d_model (config)"} <= set(facts)
    assert not any("threads" in name for name in facts)
    assert facts["training data (their SHA-256)"] == "0123456789abcdef"  # with more of it a sentence is not read
    assert len(facts["weights (their SHA-256)"]) == 16
    pictures = SimpleNamespace(train=SimpleNamespace(digest=lambda: "fedc" * 16), eval=None)
    assert alike(model, identity, pictures) == facts | {"pictures (their SHA-256)": "fedc" * 4}
    other = alike(loopos.Model(config, seed=2), identity)
    assert [name for name in facts if facts[name] != other[name]] == ["weights (their SHA-256)"]


def test_what_decides_how_data_are_read_is_told(tmp_path):
    for name in "a.txt", "a.npy", "a.jsonl":
        (tmp_path / name).write_text('{"text": "a"}')
    files = [tmp_path / "a.txt", tmp_path / "a.npy", tmp_path / "a.jsonl", str(tmp_path / "a.txt")]
    told = read_alike("chars", *files, tmp_path / "absent", "a text", b"bytes", None)
    kinds = [
        "a file of text",
        "a file of ids",
        "examples in 1 files",
        "a file of text",
        f"no file {tmp_path / 'absent'}",
    ]
    assert told == {"data": [*kinds, "str", "bytes", "NoneType"], "tokenizer": "chars"}
    assert read_alike(None)["tokenizer"] is None
    assert read_alike("some/tokenizer.json")["tokenizer"] == "str"
