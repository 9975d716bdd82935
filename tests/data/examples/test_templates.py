"""Conversations through Jinja templates and a real tokenizer. The templates are short, with the properties of stock
ones: none marks what the assistant said."""

from __future__ import annotations

import numpy as np
import pytest

from loopos import Tokenizer
from loopos.data import audit
from loopos.data.examples.encoding import CAUSES, LEARNED, UNKNOWN, Encoder
from loopos.data.examples.forms import Chat

pytest.importorskip("tokenizers", reason="a tokenizer of Hugging Face (extra [hf])")
pytest.importorskip("jinja2", reason="chat templates (extra [hf])")

MARKS = ["<|end|>", "<|begin|>", "<|turn|>", "<|channel|>", "<|return|>"]
MESSAGES = [
    {"role": "user", "content": "How far is Oro?"},
    {"role": "assistant", "content": "Nine days.\n\nOr ten."},
    {"role": "user", "content": "And back? Nine days."},
    {"role": "assistant", "content": "Über zehn: 10."},
]
PLAIN = (
    "<|begin|>{% for m in messages %}<|turn|>{{ m.role }}\n{{ m.content | trim }}<|end|>\n{% endfor %}"
    "{% if add_generation_prompt %}<|turn|>assistant\n{% endif %}"
)
FORGETTING = (  # as Qwen3: the last answer has its thoughts, which earlier ones lose
    "{% for m in messages %}<|turn|>{{ m.role }}\n"
    "{% if m.role == 'assistant' and loop.last %}<think>\n\n</think>\n\n{% endif %}{{ m.content }}<|end|>\n{% endfor %}"
    "{% if add_generation_prompt %}<|turn|>assistant\n{% endif %}"
)
PREFACING = (  # as Gemma: an answer begins with what the full text lacks, and roles must take turns
    "{% for m in messages %}{% if (m.role == 'user') != (loop.index0 % 2 == 0) %}{{ raise_exception('take turns') }}"
    "{% endif %}<|turn|>{{ m.role }}\n{{ m.content | trim }}<|end|>\n{% endfor %}"
    "{% if add_generation_prompt %}<|turn|>assistant\n<|channel|>thought\n<|channel|>{% endif %}"
)
RETURNING = (  # as gpt-oss: the last answer ends in a mark of its own
    "{% for m in messages %}<|turn|>{{ m.role }}{% if m.role == 'assistant' %}<|channel|>final{% endif %}: "
    "{{ m.content }}{% if loop.last and m.role == 'assistant' %}<|return|>{% else %}<|end|>{% endif %}{% endfor %}"
    "{% if add_generation_prompt %}<|turn|>assistant{% endif %}"
)
SHOUTING = PREFACING.replace("m.content | trim", "m.content | upper")
GENERATION = SHOUTING.replace(
    "{{ m.content | upper }}<|end|>",
    "{% if m.role == 'assistant' %}{% generation %}{{ m.content | upper }}<|end|>{% endgeneration %}"
    "{% else %}{{ m.content | upper }}<|end|>{% endif %}",
)


@pytest.fixture(scope="module")
def base():
    text = "How far is Oro? Nine days. And back? user assistant final thought Über zehn think \n\n " * 20
    return Tokenizer.train([text], 320, special_tokens=MARKS)


@pytest.fixture
def tokenizer(base):
    def made(template, eos="<|end|>"):
        return Tokenizer(base.backend, config={"eos_token": eos}, templates={"default": template})

    return made


def learned(tokenizer, messages):
    (found,) = Encoder(tokenizer).encode([(1, Chat(messages), "line 1")])
    tokens = found.tokens
    ids = np.where(tokens >= 0, tokens, ~tokens)
    assert ids.tolist() == tokenizer.encode(tokenizer.apply_chat_template(messages))
    parts, at = [], 0
    while at < len(ids):
        stop = at
        while stop < len(ids) and (tokens[stop] >= 0) == (tokens[at] >= 0):
            stop += 1
        if tokens[at] >= 0:
            parts.append(tokenizer.decode(ids[at:stop].tolist()))
        at = stop
    return parts, found.cause


ANSWERS = ["Nine days.\n\nOr ten.<|end|>", "Über zehn: 10.<|end|>"]


@pytest.mark.parametrize(
    ("template", "expected"),
    [
        (PLAIN, ANSWERS),
        (FORGETTING, [ANSWERS[0], "<think>\n\n</think>\n\n" + ANSWERS[1]]),
        (PREFACING, ANSWERS),
        (GENERATION, [answer.replace("<|end|>", "").upper() + "<|end|>" for answer in ANSWERS]),
    ],
    ids=["plain", "forgetting", "prefacing", "generation"],
)
def test_answers_are_learned(tokenizer, template, expected):
    made = tokenizer(template)
    assert learned(made, MESSAGES) == (expected, LEARNED)
    assert learned(made, MESSAGES[:2])[1] == LEARNED


def test_an_end_that_depends_on_what_follows(tokenizer):
    made = tokenizer(RETURNING, eos="<|return|>")
    first, last = learned(made, MESSAGES)[0]
    assert first == "<|channel|>final: Nine days.\n\nOr ten."
    assert last == "<|channel|>final: Über zehn: 10.<|return|>"


def test_what_is_unknown_is_counted_with_its_line(tokenizer):
    assert learned(tokenizer(SHOUTING), MESSAGES) == ([], UNKNOWN)
    found = audit([{"messages": MESSAGES}, {"text": "Oro"}], tokenizer(SHOUTING), 64)
    assert found.causes == {CAUSES[UNKNOWN]: (1, ("record 0",))}


def test_a_template_that_refuses_a_conversation_names_the_line(tokenizer):
    with pytest.raises(ValueError, match=r"data\[0\]: the chat template cannot render these messages.*take turns"):
        audit([{"messages": MESSAGES[1:]}], tokenizer(PREFACING), 64)


def test_prompt_and_completion_as_messages(tokenizer):
    found = audit([{"prompt": MESSAGES[:3], "completion": MESSAGES[3:]}], tokenizer(PLAIN), 64)
    assert found.sample.count("[[") == 1
    assert "[[Über zehn: 10.<|end|>]]" in found.sample
    assert found.ended == 1


def test_answers_that_begin_with_white_space_or_marks(tokenizer):
    """Where tokens join what the template wrote and what was said, the token of both is learned."""
    made = tokenizer(FORGETTING.replace("<think>\n\n</think>\n\n", ""))
    for said in ("\nNine", "\n\nNine", " Nine", "Nine\n", "<|channel|>Nine"):
        parts, cause = learned(made, [*MESSAGES[:3], {"role": "assistant", "content": said}])
        assert cause == LEARNED
        assert parts[0] == ANSWERS[0]
        assert parts[1].strip("\n").endswith(said.strip("\n") + "<|end|>" if said[-1] != "\n" else "Nine\n<|end|>")
