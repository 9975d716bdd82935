"""The record of a run: kept with the model, in checkpoints, over a resume."""

from __future__ import annotations

import copy
import json
import pickle

import pytest

import loopos

CONFIG = loopos.ModelConfig(256, 16, 1, 2, 16)
TEXT = "to be or not to be. " * 30
OPTIONS = {"log_every": 1, "save_every": 2, "progress": False, "max_steps": 8}


def test_a_resumed_run_has_the_record_of_the_whole(tmp_path, stop_after):
    whole = loopos.train(CONFIG, TEXT, **OPTIONS, output_dir=tmp_path / "whole").model.record
    loopos.train(CONFIG, TEXT, **OPTIONS, output_dir=tmp_path / "run", callbacks=[stop_after(3)])
    half = loopos.Model.from_pretrained(tmp_path / "run").record
    assert (half["step"], half["losses"]["last_loss"]["step"]) == (3, 3)
    resumed = loopos.train(CONFIG, TEXT, **OPTIONS, output_dir=tmp_path / "run", resume="auto").model.record
    assert {**resumed, "verdict": None} == {**whole, "verdict": None}  # a verdict is of the last call's history
    assert loopos.Model.from_pretrained(tmp_path / "run").record == resumed
    assert resumed["valid_tokens"] == 8 * 12 * 16
    assert resumed["losses"]["first_loss"]["step"] == 1
    again = loopos.train(CONFIG, TEXT, **OPTIONS, output_dir=tmp_path / "run", resume="auto").model.record
    assert again == resumed


def test_it_is_json_and_travels_with_copies():
    model = loopos.train(CONFIG, TEXT, max_steps=2, progress=False).model
    assert json.loads(json.dumps(model.record)) == model.record
    for twin in (copy.deepcopy(model), pickle.loads(pickle.dumps(model))):
        assert twin.record == model.record


def test_other_weights_have_no_record():
    model = loopos.train(CONFIG, TEXT, max_steps=2, progress=False).model
    model.load_state_dict(loopos.Model(CONFIG).state_dict())
    assert model.record is None


def test_a_run_that_failed_says_what_it_did():
    model = loopos.Model(CONFIG)
    with pytest.raises(loopos.NonFiniteError):
        loopos.train(
            model,
            TEXT,
            max_steps=9,
            learning_rate=3e3,
            lr_schedule="constant",
            max_grad_norm=None,
            optimizer="sgd",
            log_every=1,
            progress=False,
        )
    record = model.record
    assert 0 < record["step"] < 9
    assert record["losses"]["last_loss"]["step"] == record["step"]
    assert record["findings_in_all"] > 0
    assert record["findings"][0].startswith("step ")


def test_callbacks_see_it_as_it_is():
    model = loopos.Model(CONFIG)
    seen = []

    class Look:
        def on_step_end(self, info):
            seen.append(info["model"].record["step"])

    loopos.train(model, TEXT, max_steps=3, progress=False, callbacks=[Look()])
    assert seen == [1, 2, 3]
