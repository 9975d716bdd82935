"""The task of loopos.train."""

from __future__ import annotations

import json

import numpy as np
import pytest
from comparisons import MODEL, small_task

import loopos
from loopos.compare.follow import Follow, batches_of
from loopos.compare.text import TextTask, first
from loopos.compare.trial import Trial
from loopos.data.examples.data import find


def test_a_trial_is_what_loopos_train_does(text, tmp_path):
    task = small_task(text)
    (tmp_path / "a").mkdir()
    quality = task.train(Trial("adamw", 0.01, 7, 12), tmp_path / "a", Follow(tmp_path / "a"))
    ids = np.frombuffer(text.read_bytes(), np.uint8)
    cut = int(len(ids) * 0.9)
    settings = {"max_steps": 12, "batch_size": 2, "weight_decay": 0.0, "learning_rate": 0.01, "min_lr": 0.001}
    model = loopos.Model(loopos.ModelConfig(256, **MODEL), seed=7)
    run = loopos.train(model, ids[:cut], eval_data=ids[cut:], seed=7, warmup_steps=1, progress=False, **settings)
    again = loopos.Model.from_pretrained(tmp_path / "a").parameters()
    assert all(np.array_equal(array, again[name]) for name, array in run.model.parameters().items())
    assert quality == {"perplexity": pytest.approx(np.exp(run.history[-1]["eval_loss"]), rel=1e-12)}


def test_steps_by_epochs_and_subset(text):
    assert small_task(text).steps() == 12
    task = TextTask(str(text), subset=20, model=MODEL, settings={"max_steps": None, "epochs": 3, "batch_size": 4})
    assert task.steps() == 15  # 20 windows in batches of 4, three times


def test_a_subset_of_ids_and_of_examples(tmp_path):
    assert len(first(np.arange(100), 3, 16)) == 49
    assert len(first(np.arange(20), 3, 16)) == 20
    path = tmp_path / "x.jsonl"
    path.write_text("".join(json.dumps({"text": f"number {i}"}) + "\n" for i in range(40)))
    examples = find(path)
    assert [record["text"] for _, record in first(examples, 3, 16).numbered()] == ["number 0", "number 1", "number 2"]
    left = first(examples.split(0.1)[0], 100, 16)  # never the held-out ones
    assert len(list(left.numbered())) == 36
    with pytest.raises(ValueError, match="subset"):
        first(examples, 0, 16)


def test_examples_and_a_model_that_is_there(tmp_path):
    path = tmp_path / "x.jsonl"
    path.write_text("".join(json.dumps({"prompt": f"{i}+1=", "completion": f"{i + 1}"}) + "\n" for i in range(40)))
    model = loopos.Model(loopos.ModelConfig(256, **MODEL), seed=3)
    model.save_pretrained(tmp_path / "model")
    settings = {"max_steps": 2, "epochs": None, "batch_size": 2}
    task = TextTask(str(path), tokenizer="bytes", init=str(tmp_path / "model"), settings=settings)
    assert task.steps() == 2
    starts = set()
    for seed in (1, 2):
        folder = tmp_path / str(seed)
        folder.mkdir()
        follow = Follow(folder)
        assert task.train(Trial("sgd", 0.1, seed, 2), folder, follow)["perplexity"] > 1
        starts.add(follow.start)
    assert len(starts) == 1  # the folder decides it, not the seed
    assert batches_of(tmp_path / "1") != batches_of(tmp_path / "2")


def test_mistakes_are_told_before_the_first_trial(text, tmp_path):
    with pytest.raises(ValueError, match="batch_size"):
        small_task(text, batch_size=0).steps()
    with pytest.raises(ValueError, match="nothing is held out"):
        TextTask(str(text), held_out=0.0, model=MODEL, settings={"max_steps": 2}).steps()
    with pytest.raises(FileNotFoundError):
        small_task(tmp_path / "no.txt").steps()
    np.save(tmp_path / "ids.npy", np.arange(300) % 9)
    with pytest.raises(ValueError, match="vocab_size must be given"):
        TextTask(str(tmp_path / "ids.npy"), model=MODEL, settings={"max_steps": 2}).steps()
