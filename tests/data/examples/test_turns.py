"""The place of the assistant's turns, with templates that have the properties of those in use."""

from __future__ import annotations

import pytest

from loopos.data.examples.turns import common_prefix, rendered

MESSAGES = [
    {"role": "system", "content": "Be brief."},
    {"role": "user", "content": "How far is Oro?"},
    {"role": "assistant", "content": "Nine days."},
    {"role": "user", "content": "And back? Nine days."},
    {"role": "assistant", "content": "Ten."},
]


def chatml(messages, begin):
    text = "".join(f"<|im_start|>{m['role']}\n{m['content']}<|im_end|>\n" for m in messages)
    return text + ("<|im_start|>assistant\n" if begin else "")


def llama(messages, begin):
    """Content is stripped, and the date stands at the front."""
    text = "<|begin|>" + "".join(f"<|h|>{m['role']}<|/h|>\n\n{m['content'].strip()}<|eot|>" for m in messages)
    return text + ("<|h|>assistant<|/h|>\n\n" if begin else "")


def thinking(messages, begin):
    """As Qwen3: the thoughts of turns before the last question are left out, the last turn has its (empty) thoughts."""
    last = max((i for i, m in enumerate(messages) if m["role"] == "user"), default=-1)
    text = ""
    for i, m in enumerate(messages):
        said = m["content"]
        thought, mark, answer = said.rpartition("</think>")
        if m["role"] == "assistant":
            thought = thought.removeprefix("<think>").strip("\n")
            answer = answer.lstrip("\n") if mark else said
            said = answer if i < last else f"<think>\n{thought}\n</think>\n\n{answer}"
        text += f"<|im_start|>{m['role']}\n{said}<|im_end|>\n"
    return text + ("<|im_start|>assistant\n" if begin else "")


def gemma(messages, begin):
    """The system's words are put into the user's turn, and the beginning of an answer has what the full text lacks."""
    system = messages[0]["content"] + "\n\n" if messages and messages[0]["role"] == "system" else ""
    text = "<bos>"
    turns = messages[1:] if system else messages
    if not turns:
        raise ValueError("a conversation begins with the user")
    for i, m in enumerate(turns):
        role = "model" if m["role"] == "assistant" else m["role"]
        text += f"<turn>{role}\n{system if i == 0 else ''}{m['content'].strip()}</turn>\n"
    return text + ("<turn>model\n<channel>thought\n</channel>" if begin else "")


def harmony(messages, begin):
    """As gpt-oss: the last answer ends in another mark than those before it."""
    text = ""
    for i, m in enumerate(messages):
        channel = "<|channel|>final" if m["role"] == "assistant" else ""
        last = i == len(messages) - 1 and m["role"] == "assistant"
        text += f"<|start|>{m['role']}{channel}<|message|>{m['content']}{'<|return|>' if last else '<|end|>'}"
    return text + ("<|start|>assistant" if begin else "")


def learned(render, messages, first=0):
    found = rendered(render, messages, first)
    assert found.text == render(messages, False)
    return [found.text[start:end] for start, end in found.spans], found.unknown


EXPECTED = {
    chatml: ["Nine days.<|im_end|>\n", "Ten.<|im_end|>\n"],
    llama: ["Nine days.<|eot|>", "Ten.<|eot|>"],
    thinking: ["Nine days.<|im_end|>\n", "<think>\n\n</think>\n\nTen.<|im_end|>\n"],
    gemma: ["Nine days.</turn>\n", "Ten.</turn>\n"],
    harmony: ["<|channel|>final<|message|>Nine days.", "<|channel|>final<|message|>Ten.<|return|>"],
}


@pytest.mark.parametrize("render", EXPECTED, ids=lambda render: render.__name__)
def test_turns_are_found(render):
    assert learned(render, MESSAGES) == (EXPECTED[render], [])


@pytest.mark.parametrize("render", EXPECTED, ids=lambda render: render.__name__)
def test_turns_before_the_first_asked_for_are_not_learned(render):
    assert learned(render, MESSAGES, first=3) == (EXPECTED[render][1:], [])


@pytest.mark.parametrize("said", [" Ten. ", "q", "qz", "x", "", "Nine days.", "And back? Nine days."])
@pytest.mark.parametrize("render", EXPECTED, ids=lambda render: render.__name__)
def test_what_is_said_does_not_matter(render, said):
    """The same words elsewhere in the conversation, white space that a template takes away, letters of the probe."""
    messages = [*MESSAGES[:-1], {"role": "assistant", "content": said}]
    (first, *rest), unknown = learned(render, messages)
    assert first == EXPECTED[render][0]
    if said or render is not gemma:
        assert unknown == []
        assert said.strip() in rest[0]
        assert "And back?" not in rest[0] or "And back?" in said
    else:
        assert unknown == [4]  # nothing was said, and the prompt is no beginning of the whole


def test_thoughts_of_earlier_turns_are_not_claimed():
    messages = [dict(m) for m in MESSAGES]
    messages[2]["content"] = "<think>\nnine or ten?\n</think>\n\nNine days."
    messages[4]["content"] = "<think>\nmore\n</think>\n\nTen."
    expected = ["Nine days.<|im_end|>\n", "<think>\nmore\n</think>\n\nTen.<|im_end|>\n"]
    assert learned(thinking, messages) == (expected, [])


def test_a_turn_that_the_template_writes_otherwise_is_unknown():
    """Its beginning is no prefix, and what changes is no piece of what was said: nothing is claimed."""

    def shouting(messages, begin):
        return gemma([{**m, "content": m["content"].upper()} for m in messages], begin)

    assert learned(shouting, MESSAGES) == ([], [2, 4])


def test_a_turn_that_stands_twice_is_unknown():
    def echoing(messages, begin):
        return gemma(messages, begin) + f"<last>{messages[-1]['content']}</last>"

    assert learned(echoing, MESSAGES)[1] == [4]


def test_a_conversation_that_the_assistant_begins():
    """No prompt comes before, so that what the template puts first is not taken for the turn."""
    messages = [{"role": "assistant", "content": "Hello."}, *MESSAGES[3:]]
    assert learned(llama, messages) == (["Hello.<|eot|>", "Ten.<|eot|>"], [])


def test_no_turn():
    assert learned(chatml, MESSAGES[:2]) == ([], [])


def test_a_template_that_refuses_the_whole_is_an_error():
    with pytest.raises(ValueError, match="begins with the user"):
        rendered(gemma, [{"role": "system", "content": "x"}])


@pytest.mark.parametrize(
    ("a", "b", "expected"),
    [("", "", 0), ("a", "", 0), ("abc", "abd", 2), ("abc", "abc", 3), ("abc", "abcd", 3), ("x", "y", 0)],
)
def test_common_prefix(a, b, expected):
    assert common_prefix(a, b) == common_prefix(list(a), list(b)) == expected
