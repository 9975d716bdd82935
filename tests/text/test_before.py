"""loopos/text/before.py: a prompt is encoded as transformers and llama.cpp do."""

import pytest

import loopos
from loopos.data.tokenizer import ByteTokenizer
from loopos.text import before_text, prompt_ids


def with_rule(made, single, special):
    from tokenizers import processors

    made.post_processor = processors.TemplateProcessing(
        single=single, special_tokens=[(name, made.token_to_id(name)) for name in special]
    )
    return loopos.Tokenizer(made)


def test_what_stands_before_a_text_and_not_what_stands_behind(made):
    plain = made.encode("the cat", add_special_tokens=False).ids
    assert before_text(loopos.Tokenizer(made)) == []
    assert prompt_ids(loopos.Tokenizer(made), "the cat") == plain
    made.add_special_tokens(["<s>", "<more>", "</s>"])
    begin, more = made.token_to_id("<s>"), made.token_to_id("<more>")
    tokenizer = with_rule(made, "<s> <more> $A </s>", ["<s>", "<more>", "</s>"])
    assert before_text(tokenizer) == [begin, more]
    assert prompt_ids(tokenizer, "the cat") == [begin, more, *plain]
    assert prompt_ids(tokenizer, "") == [begin, more]


def test_a_tokenizer_of_another_kind_puts_nothing_there():
    assert before_text(ByteTokenizer()) == []
    assert prompt_ids(ByteTokenizer(), "to") == [116, 111]


def test_the_ids_are_those_of_transformers(made):
    transformers = pytest.importorskip("transformers", reason="the reference is transformers")
    made.add_special_tokens(["<s>"])
    ours = with_rule(made, "<s> $A", ["<s>"])
    theirs = transformers.PreTrainedTokenizerFast(tokenizer_object=ours.backend, bos_token="<s>")
    for text in ("the miller", "", " his cat"):
        assert prompt_ids(ours, text) == theirs(text)["input_ids"]
