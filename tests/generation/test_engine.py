"""loopos/generation/engine.py: texts in, text out, and where an answer ends."""

import numpy as np
import pytest

import loopos
from loopos.generation.engine import Engine

tokenizers = pytest.importorskip("tokenizers", reason="the engine needs a tokenizer (extra [hf])")
TEXT = "to be or not to be, that is the question. " * 20
TEMPLATE = (
    "{% for m in messages %}{{ m.role }}: {{ m.content }}<end>{% endfor %}"
    "{% if add_generation_prompt %}assistant: {% endif %}"
)


@pytest.fixture
def tokenizer():
    made = loopos.Tokenizer.train(TEXT, 270, special_tokens=("<end>", "<stop>"))
    made.config["eos_token"] = "<end>"
    return made


def model(tokenizer):
    made = loopos.Model(loopos.ModelConfig(tokenizer.vocab_size, 64, 1, 2, 16), seed=3)
    made.tokenizer = tokenizer
    return made


def test_an_answer_is_what_the_model_generates(tokenizer):
    made = model(tokenizer)
    engine = Engine(made)
    ids = engine.text_ids("to be or")
    pieces = list(engine.answer(ids, max_new_tokens=12, temperature=0))
    greedy = made.generate(np.array([ids]), 12, temperature=0, eos=engine.eos)[0, len(ids) :]
    assert [piece.id for piece in pieces] == greedy[: len(pieces)].tolist()
    assert "".join(piece.text for piece in pieces) == tokenizer.decode(
        [piece.id for piece in pieces if piece.id not in engine.eos]
    )
    assert pieces[-1].finish_reason in ("length", "stop")
    assert (engine.context_length, engine.vocab_size) == (64, tokenizer.vocab_size)


def test_a_text_begins_with_what_the_tokenizer_puts_there_and_a_chat_with_what_its_template_writes(tokenizer):
    tokenizer.backend.post_processor = tokenizers.processors.TemplateProcessing(
        single="<stop> $A <end>", special_tokens=[(name, tokenizer.token_to_id(name)) for name in ("<stop>", "<end>")]
    )
    tokenizer.chat_template = TEMPLATE
    engine = Engine(model(tokenizer))
    assert engine.text_ids("to be") == [tokenizer.token_to_id("<stop>"), *tokenizer.encode("to be")]
    chat = engine.chat_ids([{"role": "user", "content": "to be"}])
    assert chat == tokenizer.encode("user: to be<end>assistant: ")


def test_a_chat_needs_a_template(tokenizer):
    engine = Engine(model(tokenizer))
    assert not engine.chats
    with pytest.raises(ValueError, match="no chat template"):
        engine.chat_ids([{"role": "user", "content": "hi"}])
    tokenizer.chat_template = TEMPLATE
    assert engine.chats
    ids = engine.chat_ids([{"role": "user", "content": "to be"}])
    assert tokenizer.decode(ids) == "user: to be<end>assistant: "
    assert tokenizer.eos in ids  # the end of the turn is one token


def test_a_model_without_a_tokenizer_is_refused():
    with pytest.raises(ValueError, match="no tokenizer"):
        Engine(loopos.Model(loopos.ModelConfig(270, 64, 1, 2, 16)))
