"""A model as a classifier: training, the confusion matrix, the head, refusals."""

from __future__ import annotations

import copy

import numpy as np
import pytest

import loopos

CONFIG = loopos.ModelConfig(256, 32, 2, 2, 16)
WORDS = {"bad": ["poor", "awful", "sad"], "good": ["great", "fine", "nice"], "so": ["plain", "usual", "even"]}


def rows(count, seed=0):
    rng = np.random.default_rng(seed)
    labels = rng.choice(list(WORDS), count)
    return [{"text": " ".join(rng.choice(WORDS[label], rng.integers(1, 4))), "label": str(label)} for label in labels]


def train(model, data, **settings):
    defaults = {"task": "classify", "batch_size": 8, "max_steps": 60, "learning_rate": 5e-3, "progress": False}
    return loopos.train(model, data, **defaults | settings)


def test_a_classifier_learns():
    result = train(CONFIG, rows(60), eval_data=rows(24, seed=1))
    assert result.model.config.labels == ("bad", "good", "so")
    assert result.classes["labels"] == ["bad", "good", "so"]
    confusion = np.array(result.classes["confusion"])
    assert confusion.shape == (3, 3)
    assert confusion.sum() == 24
    assert result.classes["accuracy"] == np.trace(confusion) / 24 == result.history[-1]["eval_accuracy"]
    assert result.classes["accuracy"] > 0.9
    texts = [np.frombuffer(row["text"].encode(), np.uint8).astype(np.int64) for row in rows(24, seed=1)]
    said = result.model.classify(texts).argmax(-1)
    truth = [["bad", "good", "so"].index(row["label"]) for row in rows(24, seed=1)]
    assert (said == truth).mean() == result.classes["accuracy"]
    for true, guess in zip(truth, said, strict=True):
        confusion[true, guess] -= 1
    assert not confusion.any()


def test_without_held_out_texts_it_is_scored_on_its_own():
    result = train(CONFIG, rows(20), max_steps=2)
    assert np.sum(result.classes["confusion"]) == 20


def test_only_the_last_token_counts():
    """A text in a batch of longer ones has the loss that it has alone."""
    model = loopos.Model(CONFIG, dtype="float64").with_labels(("no", "yes"))
    texts = [np.arange(3), np.arange(9)]
    ids, targets = np.zeros((2, 9), int), np.full((2, 9), -100)
    for row, text in enumerate(texts):
        ids[row, : len(text)], targets[row, len(text) - 1] = text, row
    scores = model.classify(texts)
    logs = scores - np.log(np.exp(scores).sum(-1, keepdims=True))
    np.testing.assert_allclose(model.loss(ids, targets), -np.mean(logs[[0, 1], [0, 1]]), rtol=1e-12)


def test_with_labels_changes_the_head_alone():
    model = loopos.Model(CONFIG, seed=3)
    model.freeze("blocks.0.*")
    before, frozen = model.state_dict(), list(model.parameters(trainable=False))
    assert model.with_labels(("no", "yes"), seed=5) is model
    after = model.state_dict()
    assert set(after) - set(before) == {"score.weight"}
    assert after["score.weight"].shape == (2, 16)
    for name in set(after) & set(before):
        np.testing.assert_array_equal(after[name], before[name])
    assert list(model.parameters(trainable=False)) == frozen
    score = after["score.weight"]
    model.with_labels(("no", "yes"), seed=6)  # the labels that it has
    np.testing.assert_array_equal(model.state_dict()["score.weight"], score)
    assert model.forward(np.zeros((1, 4), int)).shape == (1, 4, 2)
    twin = copy.deepcopy(model)
    np.testing.assert_array_equal(twin.classify([np.arange(4)]), model.classify([np.arange(4)]))
    assert loopos.ModelConfig.from_dict(model.config.to_dict()) == model.config
    assert model.config.num_parameters() == sum(p.size for p in model.parameters().values())


def test_a_run_that_cannot_begin_leaves_the_model_its_head(tmp_path):
    model, file = loopos.Model(CONFIG, dtype="float64"), tmp_path / "file"
    file.touch()
    before = {name: view.tobytes() for name, view in model.parameters().items()}
    train(CONFIG, rows(8), max_steps=1, output_dir=tmp_path / "run", seed=3)
    other = {"resume": tmp_path / "run", "seed": 3}  # refused when the head is on: the checkpoint is float32
    for wrong in ({"keep_best": True}, {"patience": 1}, {"output_dir": file}, other):
        with pytest.raises((ValueError, OSError, MemoryError)):
            train(model, rows(8), **wrong)
        assert model.config == CONFIG
        assert {name: view.tobytes() for name, view in model.parameters().items()} == before


def test_a_run_of_a_classifier_is_opened_and_goes_on(tmp_path):
    whole = train(CONFIG, rows(30), max_steps=6, lr_schedule="constant")
    train(CONFIG, rows(30), max_steps=3, lr_schedule="constant", output_dir=tmp_path)
    opened = loopos.Model.from_pretrained(tmp_path)
    assert opened.config.labels == ("bad", "good", "so")
    rest = train(CONFIG, rows(30), max_steps=6, lr_schedule="constant", output_dir=tmp_path, resume="auto")
    for name, weight in whole.model.parameters().items():
        np.testing.assert_array_equal(weight, rest.model.parameters()[name])


def test_every_parameter_learns():
    model = loopos.Model(CONFIG, dtype="float64").with_labels(("no", "yes"))
    ids, targets = np.arange(10).reshape(2, 5), np.full((2, 5), -100)
    targets[:, -1] = 0, 1
    _, gradients = model.loss_and_grads(ids, targets)
    assert all(np.any(gradient) for gradient in gradients.values())
    assert loopos.gradcheck(model, (ids, targets))


def test_refusals():
    model = loopos.Model(CONFIG)
    with pytest.raises(ValueError, match="this model has no labels"):
        model.classify([np.arange(3)])
    model.with_labels(("no", "yes"))
    with pytest.raises(ValueError, match="gives scores of 2 classes, no next token"):
        model.generate(np.zeros((1, 2), int), 1)
    with pytest.raises(TypeError, match=r"texts\[0\] must be a 1-D array of ids"):
        model.classify([np.zeros((1, 2), int)])
    with pytest.raises(ValueError, match="label must be one of no, yes, got 'bad'"):
        train(model, [{"text": "a", "label": "bad"}, {"text": "a", "label": "no"}])
    for labels in (("one",), ("a", "a")):
        with pytest.raises(ValueError, match="labels must be none, or two and more, each another"):
            loopos.Model(CONFIG).with_labels(labels)
    with pytest.raises(TypeError, match="labels must be a tuple of strings"):
        loopos.Model(CONFIG).with_labels((1, 2))
    with pytest.raises(TypeError, match="task='classify' learns of examples"):
        train(loopos.Model(CONFIG), "text " * 50)


@pytest.mark.parametrize("weights", ["int8", "bfloat16"])
def test_a_small_model_keeps_its_bits_and_is_given_a_head_in_full(weights):
    model = loopos.Model(CONFIG, seed=3, weights=weights)
    before = {each["name"]: model._core.get_stored(each["name"])[0].copy() for each in model._core.stored()}
    hidden = model.hidden(np.arange(8)[None])
    model.with_labels(("no", "yes"))
    assert model.weights == weights
    assert list(model.parameters(trainable=True)) == ["score.weight"]
    assert model.hidden(np.arange(8)[None]).tobytes() == hidden.tobytes()
    for each in model._core.stored():
        np.testing.assert_array_equal(model._core.get_stored(each["name"])[0], before[each["name"]])
