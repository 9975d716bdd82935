"""Classifiers in Hugging Face folders: the scores and gradients of transformers, folders both ways, refusals."""

from __future__ import annotations

import json

import numpy as np
import pytest

import loopos
from loopos.errors import CheckpointError

NAMES = ("bad", "so", "good")
SPECIAL = {"pad_token_id": 0, "bos_token_id": 1, "eos_token_id": 2}
LENGTHS = (5, 9, 12)


def theirs(kind):
    transformers = pytest.importorskip("transformers")
    torch = pytest.importorskip("torch")
    torch.manual_seed(0)
    common = {"vocab_size": 67, "id2label": dict(enumerate(NAMES)), **SPECIAL}
    if kind == "gpt2":
        config = transformers.GPT2Config(n_embd=32, n_layer=2, n_head=4, n_positions=32, **common)
        model = transformers.GPT2ForSequenceClassification(config)
    else:
        sizes = {"hidden_size": 32, "intermediate_size": 48, "num_hidden_layers": 2, "num_attention_heads": 4}
        config = transformers.LlamaConfig(**sizes, num_key_value_heads=2, max_position_embeddings=32, **common)
        model = transformers.LlamaForSequenceClassification(config)
    return model.double().eval()


def batch():
    rng = np.random.default_rng(0)
    ids, targets = np.zeros((3, 12), np.int64), np.full((3, 12), -100)
    labels = np.array([2, 0, 1])
    for row, length in enumerate(LENGTHS):
        ids[row, :length] = rng.integers(3, 67, length)
        targets[row, length - 1] = labels[row]
    return ids, targets, labels


@pytest.mark.reference
@pytest.mark.parametrize("kind", ["gpt2", "llama"])
def test_scores_and_gradients_are_those_of_transformers(kind, tmp_path):
    model = theirs(kind)
    torch = pytest.importorskip("torch")
    model.save_pretrained(tmp_path / "theirs")
    ours = loopos.Model.from_pretrained(tmp_path / "theirs")
    assert ours.config.labels == NAMES
    ids, targets, labels = batch()
    mask = torch.tensor(np.arange(12)[None] < np.array(LENGTHS)[:, None]).long()
    said = model(torch.tensor(ids), attention_mask=mask, labels=torch.tensor(labels))
    said.loss.backward()
    # transformers takes the norms and angles of llama in float32, whatever the model is in
    tolerance = 1e-12 if kind == "gpt2" else 1e-6
    scores = ours.classify([row[:length] for row, length in zip(ids, LENGTHS, strict=True)])
    np.testing.assert_allclose(scores, said.logits.detach().numpy(), rtol=tolerance, atol=tolerance)
    loss, gradients = ours.loss_and_grads(ids, targets)
    np.testing.assert_allclose(loss, said.loss.item(), rtol=tolerance)
    body = model.transformer.wte if kind == "gpt2" else model.model.embed_tokens
    for name, weight in (("score.weight", model.score.weight), ("tok_embed.weight", body.weight)):
        np.testing.assert_allclose(gradients[name], weight.grad.numpy(), rtol=tolerance, atol=tolerance)
        assert gradients[name].any()
    ours.save_pretrained(tmp_path / "ours")
    again = type(model).from_pretrained(tmp_path / "ours", dtype=torch.float64).eval()
    assert again.config.id2label == dict(enumerate(NAMES))
    assert again.config.pad_token_id == 0
    np.testing.assert_array_equal(again(torch.tensor(ids), attention_mask=mask).logits.detach(), said.logits.detach())


def test_a_language_model_that_became_a_classifier_is_saved(tmp_path):
    config = loopos.ModelConfig(67, 32, 2, 4, 32, norm="rmsnorm", position="rope", activation="swiglu", bias=False)
    for tied in (True, False):
        model = loopos.Model(loopos.ModelConfig.from_dict(config.to_dict() | {"tie_embeddings": tied}))
        model.with_labels(NAMES).save_pretrained(tmp_path)
        said = json.loads((tmp_path / "config.json").read_text())
        assert said["architectures"] == ["LlamaForSequenceClassification"]
        assert said["label2id"] == {"bad": 0, "so": 1, "good": 2}
        again = loopos.Model.from_pretrained(tmp_path)
        assert again.config.labels == NAMES
        for name, weight in model.parameters().items():
            np.testing.assert_array_equal(weight, again.parameters()[name])


def test_the_source_of_a_language_model_gives_the_end_of_text(tmp_path):
    """A text's last token is found by pad_token_id; of a folder that has none it is the end of a text."""
    config = loopos.ModelConfig(67, 32, 1, 2, 16)
    loopos.Model(config).save_pretrained(tmp_path / "lm")
    path = tmp_path / "lm" / "config.json"
    path.write_text(json.dumps(json.loads(path.read_text()) | {"eos_token_id": 66}))
    model = loopos.Model.from_pretrained(tmp_path / "lm").with_labels(NAMES)
    model.save_pretrained(tmp_path / "classifier")
    said = json.loads((tmp_path / "classifier" / "config.json").read_text())
    assert said["architectures"] == ["GPT2ForSequenceClassification"]
    assert said["pad_token_id"] == 66


@pytest.mark.parametrize(
    ("changed", "error", "message"),
    [
        ({"problem_type": "regression"}, ValueError, "problem_type 'regression' is not supported"),
        ({"id2label": {"0": "one"}}, ValueError, "a head of one class is a regression"),
        ({"id2label": {"0": "a", "2": "b"}}, CheckpointError, "id2label must name the classes 0, 1"),
        ({"id2label": ["a", "b"]}, CheckpointError, "id2label must name the classes 0, 1"),
        ({"id2label": {"0": 1, "1": 2}}, CheckpointError, "id2label must name the classes 0, 1"),
        ({"id2label": None, "num_labels": 0}, CheckpointError, "num_labels must be a whole number from 1"),
        ({"id2label": None, "num_labels": 4}, CheckpointError, r"score.weight is \(3, 16\), expected \(4, 16\)"),
    ],
)
def test_refusals(tmp_path, changed, error, message):
    loopos.Model(loopos.ModelConfig(67, 32, 1, 2, 16)).with_labels(NAMES).save_pretrained(tmp_path)
    path = tmp_path / "config.json"
    path.write_text(json.dumps(json.loads(path.read_text()) | changed))
    with pytest.raises(error, match=message):
        loopos.Model.from_pretrained(tmp_path)
