"""The label audit. Complaints 1 to 3 of those who train elsewhere: no labels, not a number from that, never an end."""

from __future__ import annotations

import json

import pytest
from example_tokens import LetterTokenizer

from loopos.data import LabelAudit, audit
from loopos.data.examples.audit import CUT_AWAY
from loopos.data.examples.encoding import CAUSES, EMPTY, LONE, NO_TURN, UNKNOWN

TOKENIZER = LetterTokenizer()
DATA = [
    {"text": "abc"},  # 4 tokens, all learned
    {"prompt": "ab", "completion": "cd"},  # 5, 3 learned
    {"prompt": "abcdefghij", "completion": "k"},  # cut away at 8
    {"prompt": "a", "completion": ""},
    {"text": "abcdefghijk"},  # cut, all 8 learned, no end
]


def test_counts():
    found = audit(DATA, TOKENIZER, 8)
    assert isinstance(found, LabelAudit)
    assert (found.examples, found.tokens, found.valid, found.masked) == (5, 4 + 5 + 8 + 2 + 8, 4 + 3 + 8, 2 + 8 + 2)
    assert (found.empty_rows, found.cut, found.ended) == (2, 2, 2)
    assert found.causes == {CUT_AWAY: (1, ("record 2",)), CAUSES[EMPTY]: (1, ("record 3",))}
    assert found.forms == {"text": 2, "prompt and completion": 3}
    assert found.end_token == "<end>"


def test_all_tokens():
    found = audit(DATA, TOKENIZER, 8, mask_prompt=False)
    assert (found.valid, found.masked, found.empty_rows) == (27, 0, 0)


def test_as_text_and_as_json():
    found = audit([{"prompt": "ab", "completion": "cd"}, *DATA], TOKENIZER, 8)
    text = str(found)
    assert "6 examples (2 of text, 4 of prompt and completion), 32 tokens: 18 learned" in text
    assert "cut at 8 tokens: 2; rows that end in a learned end of text: 3 of 4 (end of text '<end>')" in text
    assert f"1 with nothing to learn: {CAUSES[EMPTY]} (record 4)" in text
    assert "one row, learned between [[ and ]]: 'ab[[cd<end>]]'" in text
    values = json.loads(json.dumps(found.to_dict()))
    assert values["examples"] == 6
    assert values["causes"][CUT_AWAY] == {"rows": 1, "first": ["record 3"]}


def test_of_many_rows_the_first_are_named():
    found = audit([{"prompt": "a", "completion": ""}] * 9, TOKENIZER, 8)
    assert found.causes == {CAUSES[EMPTY]: (9, tuple(f"record {i}" for i in range(5)))}
    assert "(record 0, record 1, record 2, record 3, record 4, ...)" in str(found)


def test_a_model_that_would_never_stop_is_told():
    said = "the model does not learn where to stop"
    assert said in str(audit([{"text": "abcdefgh"}], TOKENIZER, 4))
    assert said in str(audit([{"text": "abc"}], "bytes", 8))
    assert "the tokenizer has no end-of-text token" in str(audit([{"text": "abc"}], "bytes", 8))
    assert said not in str(audit([{"text": "abc"}], TOKENIZER, 8))


def turns(*pairs):
    return {"messages": [{"role": role, "content": content} for role, content in pairs]}


class Hiding(LetterTokenizer):
    """A template that does not show where a turn is."""

    def apply_chat_template(self, messages, add_generation_prompt=False):
        text = "".join(f"<{m['role']}>{m['content'].upper()}<end>" for m in messages)
        return text + ("<assistant>THINK" if add_generation_prompt else "")


@pytest.mark.parametrize(
    ("data", "tokenizer", "cause"),
    [
        ([turns(("user", "a"))] * 2, TOKENIZER, NO_TURN),
        ([turns(("user", "a"), ("assistant", "b"))] * 2, Hiding(), UNKNOWN),
        ([{"text": "a"}] * 2, LetterTokenizer(eos=None), LONE),
        ([{"text": ""}] * 2, TOKENIZER, EMPTY),
        ([{"prompt": "abcdefghij", "completion": "k"}] * 2, TOKENIZER, None),
    ],
)
def test_when_nothing_is_left_to_learn_it_says_why(data, tokenizer, cause):
    found = audit(data, tokenizer, 8)
    assert found.empty_rows == found.examples == 2
    why = CUT_AWAY if cause is None else CAUSES[cause]
    with pytest.raises(ValueError, match=rf"data: nothing is left to learn in any of 2 examples: 2 .*{why}.*record 0"):
        found.require_labels("data")


def test_no_example_at_all(tmp_path):
    path = tmp_path / "a.jsonl"
    path.write_text("\n\n")
    found = audit(path, TOKENIZER, 8)
    assert (found.examples, found.tokens, found.sample) == (0, 0, "")
    assert "0 examples (none)" in str(found)
    with pytest.raises(ValueError, match="expected examples to learn, got none"):
        found.require_labels("data")


def test_one_row_to_learn_is_enough():
    audit([*DATA, turns(("user", "a"))], TOKENIZER, 8).require_labels("data")


def test_long_parts_of_the_sample_are_shortened():
    sample = audit([{"prompt": "p" * 2000, "completion": "c" * 2000}], TOKENIZER, 5000).sample
    assert len(sample) < 700
    assert "p ... p" in sample
    assert "[[c" in sample


def test_arguments():
    with pytest.raises(TypeError, match="audit: expected examples"):
        audit("a text", TOKENIZER, 8)
    with pytest.raises(ValueError, match="audit: seq_len"):
        audit(DATA, TOKENIZER, 0)
    with pytest.raises(TypeError, match="mask_prompt"):
        audit(DATA, TOKENIZER, 8, mask_prompt=1)
