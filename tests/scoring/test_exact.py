"""Exact match of greedy answers."""

from __future__ import annotations

import copy

import numpy as np
import pytest

import loopos
from loopos.data.tokenizer import ByteTokenizer
from loopos.scoring import exact
from loopos.scoring.exact import greedy, match, normalised
from loopos.scoring.examples import Exact


class Chat(ByteTokenizer):
    def apply_chat_template(self, messages, add_generation_prompt=False):
        assert add_generation_prompt
        return "".join(f"{each['role'][0]}:{each['content']}\n" for each in messages) + "a:"


@pytest.fixture(scope="module")
def model():
    """It has learned one line by heart."""
    text = "u:hi\na:Hello  there\n" * 30
    options = {"learning_rate": 0.01, "max_steps": 60, "batch_size": 8, "progress": False}
    return loopos.train(loopos.ModelConfig(256, 32, 1, 2, 32), text, **options).model


def test_an_answer_ends_at_the_end_of_text(model):
    prompt = np.array(ByteTokenizer().encode("u:hi\na:"), np.int64)
    assert bytes(greedy(model, [prompt], 14, ())[0].tolist()) == b"Hello  there\nu"
    assert bytes(greedy(model, [prompt], 14, [ord("\n")])[0].tolist()) == b"Hello  there"
    assert greedy(model, [prompt], 14, [ord("H")])[0].tolist() == []


def test_unless_told_it_ends_where_the_model_says(model):
    twin = copy.deepcopy(model)
    twin.stop_ids = [ord("\n")]
    asked = Exact("u:hi\na:", "Hello there")
    for eos, right in ((None, True), ([], False)):
        assert match(twin, Chat(), [asked], max_new_tokens=14, eos=eos).right.tolist() == [right]


def test_prompts_are_answered_together_each_to_its_own_end(model, monkeypatch):
    texts = ("u:hi\na:", "a:", "hi\na:Hello  the", "u:hi\na:Hello")
    prompts = [np.array(ByteTokenizer().encode(text), np.int64) for text in texts]
    alone = [greedy(model, [prompt], 14, [10])[0].tolist() for prompt in prompts]
    calls, real = [], model.generate
    monkeypatch.setattr(model, "generate", lambda ids, *a, **k: calls.append(k["eos"]) or real(ids, *a, **k))
    told = []
    assert [each.tolist() for each in greedy(model, prompts, 14, [10], told.append)] == alone
    assert calls == [[10]]  # the model is told where a text ends, and does not go on
    assert told == [4]
    monkeypatch.setattr(exact, "BATCH_TOKENS", 60)
    assert [each.tolist() for each in greedy(model, prompts, 14, [10], told.append)] == alone
    assert told == [4, 2, 2]


class Begins(Chat):
    """It puts the byte 1 before a text."""

    backend = None

    def encode(self, text, add_special_tokens=False):
        return [*[1] * add_special_tokens, *super().encode(text)]


@pytest.fixture
def spy(model):
    """A model that keeps in ``given`` the prompts that it is asked to continue, as bytes."""

    class Spy:
        config, stop_ids, given = model.config, [], []

        def generate(self, prompts, *a, **k):
            self.given.extend(bytes(ids.tolist()) for ids in prompts)
            return model.generate(prompts, *a, **k)

    return Spy()


def test_a_prompt_begins_with_what_the_tokenizer_puts_there_and_messages_with_what_the_template_writes(spy):
    match(spy, Begins(), [Exact("hi", "x"), Exact(({"role": "user", "content": "hi"},), "x")], max_new_tokens=4)
    assert sorted(spy.given) == [b"\x01hi", b"u:hi\na:"]


def test_prompts_and_messages_are_answered(model):
    examples = [
        Exact("u:hi\na:", " Hello there "),
        Exact("u:hi\na:", "hello there"),
        Exact(({"role": "user", "content": "hi"},), "Hello there"),
    ]
    told = []
    found = match(model, Chat(), examples, max_new_tokens=14, eos=[10], advance=told.append)
    assert found.right.tolist() == [True, False, True]
    assert found.answers == ("Hello  there",) * 3
    assert found.accuracy == pytest.approx(2 / 3)
    assert found.to_dict()["examples"] == sum(told) == 3


def test_normalisation_is_what_it_says():
    assert normalised(" a\n\t b ") == "a b"
    assert normalised("e\u0301") == "\u00e9"
    assert normalised("A.") != normalised("a")


def test_what_cannot_be_answered_is_refused(model):
    with pytest.raises(ValueError, match="messages need a tokenizer with a chat template"):
        match(model, ByteTokenizer(), [Exact(({"role": "user", "content": "hi"},), "x")], max_new_tokens=4)
    with pytest.raises(ValueError, match="max_new_tokens 32 leaves no room"):
        match(model, ByteTokenizer(), [Exact("a", "b")], max_new_tokens=32)
    with pytest.raises(ValueError, match="max_new_tokens 31 leaves no room"):
        match(model, Begins(), [Exact("a", "b")], max_new_tokens=31)
    with pytest.raises(ValueError, match="at least one token"):
        match(model, ByteTokenizer(), [Exact("", "b")], max_new_tokens=4)


@pytest.mark.parametrize(
    ("tokenizer", "prompt", "read"),
    [
        (ByteTokenizer(), "z" * 36 + "u:hi\na:", b"zzzzzu:hi\na:"),
        (Begins(), "z" * 36 + "u:hi\na:", b"\x01zzzzu:hi\na:"),
        (Begins(), "zzzzu:hi\na:", b"\x01zzzzu:hi\na:"),  # fits just so
        (Begins(), ({"role": "\x01", "content": "z" * 36},), b"\x01zzzzzzzz\na:"),  # a template that writes it
        (Begins(), ({"role": "u", "content": "z" * 36},), b"zzzzzzzzz\na:"),  # and one that does not
    ],
    ids=["no beginning", "a beginning", "it fits", "of a template", "none of a template"],
)
def test_a_long_prompt_keeps_its_end_and_its_beginning(spy, tokenizer, prompt, read):
    found = match(spy, tokenizer, [Exact(prompt, "x")], max_new_tokens=20, eos=[10])
    assert spy.given == [read]
    assert found.cut == (prompt != "zzzzu:hi\na:")
