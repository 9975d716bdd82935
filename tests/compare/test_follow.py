"""What is noted of a training: every batch, as the model got it."""

from __future__ import annotations

import numpy as np

import loopos
from loopos.compare.follow import Follow, batches_of, digest_of, followed

CONFIG = loopos.ModelConfig(256, 16, 1, 2, 16)
IDS = np.arange(600) % 50


def run(folder, ids=IDS, **changed):
    folder.mkdir(exist_ok=True)
    settings = {"max_steps": 6, "batch_size": 2, "eval_data": IDS[:100], "eval_every": 2, "progress": False} | changed
    loopos.train(CONFIG, ids, callbacks=[Follow(folder)], **settings)
    return folder


def test_each_update_has_a_digest_that_depends_on_the_batch_alone(tmp_path):
    a = batches_of(run(tmp_path / "a"))
    assert len(set(a)) == 6
    assert batches_of(run(tmp_path / "b", optimizer="sgd", learning_rate=0.5, threads=1)) == a
    assert batches_of(run(tmp_path / "c", seed=2)) != a
    other = IDS.copy()
    other[300] += 1
    pairs = (batches_of(run(tmp_path / name, x, max_steps=18)) for name, x in (("d", IDS), ("e", other)))  # an epoch
    assert sum(x != y for x, y in zip(*pairs, strict=True)) == 1


def test_micro_batches_count_too(tmp_path):
    whole = batches_of(run(tmp_path / "a", grad_accum=2, max_steps=2))
    assert len(set(whole)) == 2
    assert whole[0] not in batches_of(run(tmp_path / "b", max_steps=2))


def test_every_part_of_a_batch_counts(tmp_path):
    digests = []
    for changed in range(4):  # the last changes none of the three
        batch = [np.zeros((2, 3), np.int64), np.ones((2, 3), np.int64), np.zeros((2, 4, 4, 3), np.uint8)]
        if changed < 3:
            batch[changed].reshape(-1)[-1] += 1
        folder = tmp_path / str(changed)
        folder.mkdir()
        follow = Follow(folder)
        follow.on_train_begin({"step": 0})
        numbers = {"step": 1, "loss": 1.0, "grad_norm": 1.0, "nonfinite": 0, "skipped": 0, "clipped": 0}
        follow.on_step_end(numbers | {"batches": [batch]})
        follow.on_train_end({})
        digests += batches_of(folder)
    assert len(set(digests)) == 4


def test_the_notes_go_on_with_a_run_that_is_resumed(tmp_path):
    reference = followed(run(tmp_path / "a", output_dir=tmp_path / "a"))
    again = tmp_path / "b"
    run(again, output_dir=again, max_steps=3, save_every=2)
    run(again, output_dir=again, max_steps=6, resume="auto")
    assert batches_of(again) == batches_of(tmp_path / "a")
    assert followed(again)["steps"] == 6
    assert followed(again)["batches"] == reference["batches"]


def test_curves_and_means(tmp_path):
    found = followed(run(tmp_path / "a"))
    assert [step for step, _ in found["curves"]["loss"]] == [1, 2, 3, 4, 5, 6]
    assert [step for step, _, _ in found["curves"]["eval_loss"]] == [2, 4, 6]
    seconds = [seconds for _, seconds, _ in found["curves"]["eval_loss"]]
    assert 0 < seconds[0] < seconds[1] < seconds[2] == found["seconds"]
    assert found["eval_loss"] == found["curves"]["eval_loss"][-1][2]
    assert found["loss"] == found["curves"]["loss"][-1][1]
    assert found["skipped"] == found["nonfinite"] == 0


def test_nothing_is_followed_where_nothing_began(tmp_path):
    assert followed(tmp_path)["steps"] == 0
    assert batches_of(tmp_path) == []


def test_a_digest_of_weights_sees_one_bit_a_name_and_a_shape():
    weights = {"a": np.zeros((2, 3), np.float32)}
    other = {"a": weights["a"].copy()}
    other["a"][1, 2] = np.float32(1e-45)
    digests = [digest_of(each) for each in (weights, other, {"b": weights["a"]}, {"a": weights["a"].reshape(3, 2)})]
    assert len(set(digests)) == 4
    assert digest_of({"a": weights["a"].copy()}) == digests[0]
