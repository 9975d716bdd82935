"""Tokens of examples, and which of them are learned."""

from __future__ import annotations

import numpy as np
import pytest
from example_tokens import BEGIN, END, LetterTokenizer

from loopos.data.examples import encoding
from loopos.data.examples.encoding import EMPTY, LEARNED, LONE, NO_TURN, UNKNOWN, Encoder
from loopos.data.examples.forms import Chat, Completion, Text
from loopos.data.tokenizer import ByteTokenizer


def turn(role, content):
    return {"role": role, "content": content}


def encoded(*examples, tokenizer=None):
    numbered = [(number, example, f"line {number}") for number, example in enumerate(examples, 1)]
    return list(Encoder(tokenizer or LetterTokenizer()).encode(numbered))


def marked(each, tokenizer=None):
    """The text, with learned parts in brackets."""
    learned, ids, text = each.tokens >= 0, np.where(each.tokens >= 0, each.tokens, ~each.tokens), ""
    for at, i in enumerate(ids):
        text += "[" if learned[at] and (at == 0 or not learned[at - 1]) else ""
        text += "]" if not learned[at] and at and learned[at - 1] else ""
        text += (tokenizer or LetterTokenizer()).decode([i])
    return text + ("]" if len(learned) and learned[-1] else "")


def one(example, **kwargs):
    (found,) = encoded(example, **kwargs)
    return marked(found, kwargs.get("tokenizer")), found.cause


def test_a_text_is_learned_whole_and_ends():
    assert one(Text("ab")) == ("[ab<end>]", LEARNED)
    assert one(Text("ab<end>")) == ("[ab<end>]", LEARNED)  # not twice


def test_a_completion_is_learned_and_its_end():
    assert one(Completion("ab ", "cd")) == ("ab [cd<end>]", LEARNED)
    assert one(Completion("", "cd")) == ("[cd<end>]", LEARNED)


def test_without_an_end_of_text_token_none_is_learned():
    assert one(Completion("ab", "cd"), tokenizer=ByteTokenizer()) == ("ab[cd]", LEARNED)


def test_a_prompt_keeps_the_tokens_that_it_has_alone():
    """Line ends on both sides of the border would be one token, which a model that is given the prompt never sees."""
    (found,) = encoded(Completion("a\n", "\nb"))
    alone = LetterTokenizer().encode("a\n")
    assert np.where(found.tokens >= 0, found.tokens, ~found.tokens)[: len(alone)].tolist() == alone
    assert marked(found) == "a\n[\nb<end>]"


def test_turns_of_the_assistant_are_learned_up_to_their_end():
    chat = Chat([turn("user", "a"), turn("assistant", "b"), turn("user", "c"), turn("assistant", "d")])
    text = "<user>\na<end>\n<assistant>\n[b<end>]\n<user>\nc<end>\n<assistant>\n[d<end>]\n"
    assert one(chat) == (text, LEARNED)
    assert one(chat._replace(first=3))[0] == text.replace("[b<end>]", "b<end>")


def test_a_turn_that_begins_within_a_token():
    """What the template writes ends in a line end, and so begins the answer: one token for both, which is learned."""
    chat = Chat([turn("user", "a"), turn("assistant", "\nb"), turn("user", "c"), turn("assistant", "d")])
    text = "<user>\na<end>\n<assistant>[\n\nb<end>]\n<user>\nc<end>\n<assistant>\n[d<end>]\n"
    assert one(chat) == (text, LEARNED)


@pytest.mark.parametrize(
    ("example", "cause"),
    [
        (Text(""), EMPTY),
        (Completion("ab", ""), EMPTY),
        (Chat([turn("user", "a")]), NO_TURN),
        (Chat([turn("assistant", "a"), turn("user", "b")], 1), NO_TURN),
    ],
)
def test_why_nothing_is_learned(example, cause):
    text, found = one(example)
    assert (found, "[" in text) == (cause, False)


def test_one_token_alone_is_not_learned():
    assert one(Text("a"), tokenizer=LetterTokenizer(eos=None)) == ("a", LONE)
    assert one(Text("a")) == ("[a<end>]", LEARNED)


class Hiding(LetterTokenizer):
    """Its template writes what the assistant said in capitals, and a prompt is no beginning of the whole."""

    def apply_chat_template(self, messages, add_generation_prompt=False):
        text = "".join(f"<{m['role']}>{m['content'].upper()}<end>" for m in messages)
        return text + ("<assistant>THINK" if add_generation_prompt else "")


class Marking(Hiding):
    """As above, with marks of its own."""

    def render_chat(self, messages, **_):
        text, answers = "", []
        for message in messages:
            text += f"<{message['role']}>"
            start = len(text)
            text += message["content"].upper() + "<end>"
            if message["role"] == "assistant":
                answers.append((start, len(text)))
        return text, answers


def test_a_turn_whose_place_is_unknown_is_not_guessed():
    chat = Chat([turn("user", "a"), turn("assistant", "b"), turn("user", "c"), turn("assistant", "d")])
    assert one(chat, tokenizer=Hiding()) == ("<user>A<end><assistant>B<end><user>C<end><assistant>D<end>", UNKNOWN)
    marks = "<user>A<end><assistant>[B<end>]<user>C<end><assistant>[D<end>]"
    assert one(chat, tokenizer=Marking()) == (marks, LEARNED)


def test_errors_name_the_line():
    with pytest.raises(ValueError, match=r"line 1: the chat template cannot render these messages: roles are user"):
        encoded(Chat([turn("bad", "a"), turn("assistant", "b")]))
    with pytest.raises(ValueError, match=r"line 2: messages need a tokenizer with a chat template, got ByteTokenizer"):
        encoded(Text("a"), Chat([turn("assistant", "b")]), tokenizer=ByteTokenizer())
    with pytest.raises(ValueError, match=r"line 1: messages need a tokenizer with a chat template"):
        encoded(Chat([turn("assistant", "b")]), tokenizer=LetterTokenizer(template=False))


class Batched(LetterTokenizer):
    """As one of Hugging Face: with a backend that takes many texts, and a token that it puts first."""

    bos = BEGIN

    class Encoding:
        def __init__(self, ids):
            self.ids = ids

    @property
    def backend(self):
        return self

    def encode(self, text, add_special_tokens=False):
        return [BEGIN] * add_special_tokens + super().encode(text)

    def encode_batch(self, texts, add_special_tokens):
        assert not add_special_tokens
        return [self.Encoding(self.encode(text)) for text in texts]


def test_a_token_that_the_tokenizer_puts_first_is_read():
    assert one(Text("a"), tokenizer=Batched()) == ("<begin>[a<end>]", LEARNED)
    assert one(Completion("<begin>a", "b"), tokenizer=Batched()) == ("<begin>a[b<end>]", LEARNED)
    chat = Chat([turn("user", "a"), turn("assistant", "b")])
    assert one(chat, tokenizer=Batched())[0].startswith("<user>")  # the template says what comes first


def test_groups_do_not_show(monkeypatch):
    chat = Chat([turn("user", "a"), turn("assistant", "b")])
    examples = [Text("ab"), Completion("c", "d"), chat] * 20
    whole = encoded(*examples)
    for limit in ("GROUP", "GROUP_CHARS"):
        monkeypatch.setattr(encoding, limit, 7)
        parts = encoded(*examples)
        assert [(e.number, e.form, e.cause, e.tokens.tolist()) for e in parts] == [
            (e.number, e.form, e.cause, e.tokens.tolist()) for e in whole
        ]
    assert [each.form for each in whole[:3]] == [0, 1, 2]
    assert END in whole[0].tokens


def test_a_tokenizer_that_gives_no_ids():
    class Broken(LetterTokenizer):
        def encode(self, text):
            return ["a"]

    with pytest.raises(TypeError, match=r"tokenizer.encode must give a list of ids"):
        encoded(Text("a"), tokenizer=Broken())
