"""Multiple choice: which answer is taken, against a count by hand and against transformers."""

from __future__ import annotations

import numpy as np
import pytest

import loopos
from loopos.data.tokenizer import ByteTokenizer
from loopos.scoring.choice import choose
from loopos.scoring.examples import Choice

CONFIG = loopos.ModelConfig(256, 64, 2, 2, 32)


@pytest.fixture
def examples():
    rng = np.random.default_rng(5)

    def text(length):
        return bytes(rng.integers(97, 123, length).tolist()).decode()

    return [
        Choice(text(rng.integers(1, 40)), tuple(text(rng.integers(1, 12)) for _ in range(4)), int(rng.integers(4)))
        for _ in range(30)
    ]


def by_hand(log_softmax, examples):
    """(chosen, chosen by bytes), from log-probabilities (T, V) of a sequence of bytes."""
    plain, normed = [], []
    for example in examples:
        sums = []
        for choice in example.choices:
            before, after = example.context.encode(), f" {choice}".encode()
            rows = log_softmax(np.frombuffer(before + after[:-1], np.uint8).astype(np.int64))
            sums.append(sum(rows[len(before) - 1 + i, token] for i, token in enumerate(after)))
        plain.append(int(np.argmax(sums)))
        normed.append(int(np.argmax([s / len(c.encode()) for s, c in zip(sums, example.choices, strict=True)])))
    return plain, normed


def test_the_answers_are_those_of_a_count_by_hand(examples):
    model = loopos.Model(CONFIG, seed=1)
    for view in model.parameters().values():
        view *= 3

    def log_softmax(ids):
        logits = model.forward(ids[None])[0].astype(np.float64)
        return logits - np.log(np.exp(logits).sum(-1, keepdims=True))

    found = choose(model, ByteTokenizer(), examples)
    plain, normed = by_hand(log_softmax, examples)
    assert found.chosen.tolist() == plain
    assert found.chosen_norm.tolist() == normed
    assert plain != normed
    answers = [example.answer for example in examples]
    assert found.accuracy == np.mean(np.equal(plain, answers))
    assert found.accuracy_norm == np.mean(np.equal(normed, answers))
    assert found.interval.low < found.accuracy < found.interval.high


@pytest.mark.reference
@pytest.mark.parametrize(
    "options", [{}, {"norm": "rmsnorm", "activation": "swiglu", "position": "rope", "bias": False}]
)
def test_log_likelihoods_are_those_of_transformers(tmp_path, examples, options):
    torch = pytest.importorskip("torch", reason="compares with PyTorch")
    transformers = pytest.importorskip("transformers", reason="compares with transformers")
    from loopos.scoring.likelihood import log_likelihoods, request

    model = loopos.Model(loopos.ModelConfig(256, 64, 2, 2, 32, **options), seed=1)
    for name, view in model.parameters().items():
        view *= 1 if "norm" in name else 3
    model.save_pretrained(tmp_path)
    theirs = transformers.AutoModelForCausalLM.from_pretrained(tmp_path).eval()
    requests, expected = [], []
    for example in examples:
        for choice in example.choices:
            made = request(ByteTokenizer(), example.context, f" {choice}", None, 64)
            with torch.no_grad():
                rows = theirs(torch.from_numpy(made.ids[None, :-1])).logits[0].double().log_softmax(-1).numpy()
            wanted = made.ids[-made.scored :]
            requests.append(made)
            expected.append(rows[-made.scored :][np.arange(made.scored), wanted].sum())
    np.testing.assert_allclose(log_likelihoods(model, requests), expected, rtol=5e-6)


def test_a_tie_goes_to_the_first():
    model = loopos.Model(CONFIG)
    for view in model.parameters().values():
        view[...] = 0  # every token is as likely as any other
    found = choose(model, ByteTokenizer(), [Choice("q", ("aa", "bb"), 1), Choice("q", ("aaa", "b"), 1)])
    assert found.chosen.tolist() == [0, 1]  # fewer tokens, more likely
    assert found.chosen_norm.tolist()[0] == 0
    assert found.right.tolist() == [False, True]


def test_bytes_count_not_characters():
    model = loopos.Model(CONFIG)
    for view in model.parameters().values():
        view[...] = 0
    # -log 256 a byte, the blank in front included: (1 + bytes) / bytes, smaller for the longer
    found = choose(model, ByteTokenizer(), [Choice("q", ("aaa", "éé"), 1)])
    assert found.chosen_norm.tolist() == [1]  # 4 bytes against 3, though 2 characters against 3


def test_what_was_cut_is_counted():
    found = choose(loopos.Model(CONFIG), ByteTokenizer(), [Choice("q" * 100, ("a", "b"), 0)])
    assert found.cut == 2
    assert found.to_dict()["examples"] == 1
