"""A session: what the cache holds is not read again, an answer can be stopped, and the session goes on."""

from __future__ import annotations

import math
import threading

import numpy as np
import pytest

import loopos
from loopos.generation import Session

from .conftest import build, without_cache

PROMPT = np.random.default_rng(0).integers(0, 61, 30).tolist()


def told(session, ids, *args, **options):
    return [piece.id for piece in session.generate(ids, *args, **({"temperature": 0} | options))]


def test_turns_of_a_chat_keep_the_cache(model):
    session, text = Session(model), list(PROMPT)
    for turn in range(4):
        answer = told(session, text, 9)
        assert session.kept == (len(text) - 6 if turn else 0)  # all but the last token of an answer, and what is new
        text += answer
        assert text == without_cache(model, text[:-9], 9)
        assert session.ids == text[:-1]
        text += [1, 2, 3, 4, 5]
    again = told(session, text[:35], 9)  # back to an earlier place
    assert session.kept == 34
    assert again == without_cache(model, text[:35], 9)[35:]
    other = [5, *PROMPT[1:]]
    assert told(session, other, 3) == without_cache(model, other, 3)[30:]
    assert session.kept == 0


def test_a_long_text_grows_beyond_the_first_memory(model):
    session = Session(model)
    text = np.random.default_rng(1).integers(0, 61, 250).tolist()
    answer = told(session, text, 300)
    assert model._core.generation()[2] >= 549
    assert answer[:20] == without_cache(model, text, 20)[250:]
    assert text + answer == model.generate(np.array([text]), 300, temperature=0)[0].tolist()


def test_it_says_why_it_ended(letters):
    model = build(context_length=40)
    session = Session(model, letters)
    pieces = list(session.generate(PROMPT, 4, temperature=0))
    assert [piece.finish_reason for piece in pieces] == [None, None, None, "length"]
    whole = list(session.generate(PROMPT, temperature=0))
    assert len(whole) == 10
    assert whole[-1].finish_reason == "context"
    assert [p.finish_reason for p in session.generate(PROMPT, 11, temperature=0)][-1] == "context"
    ids = [piece.id for piece in whole]
    ended = list(session.generate(PROMPT, 9, temperature=0, eos=ids[4]))
    at = ids.index(ids[4])
    assert [piece.id for piece in ended] == ids[: at + 1]
    assert (ended[-1].text, ended[-1].finish_reason) == ("", "stop")
    assert "".join(piece.text for piece in ended) == letters.decode(ids[:at])
    assert [tuple(p) for p in session.generate(PROMPT, 0)] == [(None, "", "length")]
    with pytest.raises(ValueError, match=r"ids must be 1 to 40 tokens .* got 41; leave out the oldest"):
        session.generate([1] * 41)
    assert [p.finish_reason for p in session.generate([1] * 40)] == ["context"]


def test_a_stop_string_is_no_part_of_the_text(letters):
    session = Session(build(), letters)
    ids = told(session, PROMPT, 12)
    text = letters.decode(ids)
    pieces = list(session.generate(PROMPT, 12, temperature=0, stop=[text[4:7]]))
    assert "".join(piece.text for piece in pieces) == text[: text.index(text[4:7])]
    assert pieces[-1].finish_reason == "stop"
    # One that never comes holds nothing back in the end.
    pieces = list(session.generate(PROMPT, 12, temperature=0, stop=[text[-2:] + "never"]))
    assert "".join(piece.text for piece in pieces) == text
    assert pieces[-1].finish_reason == "length"


def test_it_is_stopped_from_another_thread_and_goes_on():
    model = build()
    session = Session(model)
    got = []
    for piece in session.generate(PROMPT, 500, temperature=0):
        got.append(piece)
        if len(got) == 5:
            thread = threading.Thread(target=session.stop)
            thread.start()
            thread.join()
    assert [piece.finish_reason for piece in got] == [None] * 5 + ["stopped"]
    assert got[-1].id is None
    text = PROMPT + [piece.id for piece in got[:5]]
    assert told(session, text, 4) == without_cache(model, text, 4)[35:]
    assert session.kept == 34
    calls = iter(range(99))
    stopped = list(session.generate(text, 50, temperature=0, stopped=lambda: next(calls) >= 3))
    assert stopped[-1].finish_reason == "stopped"
    assert len(stopped) == 2
    session.stop()  # with no answer under way
    assert len(told(session, text, 3)) == 3


def test_ctrl_c_in_the_middle_of_a_prompt_leaves_it_usable():
    model = build()
    session, calls = Session(model), iter(range(99))
    text = np.random.default_rng(1).integers(0, 61, 600).tolist()

    def interrupt():
        if next(calls) == 2:
            raise KeyboardInterrupt
        return False

    with pytest.raises(KeyboardInterrupt):
        list(session.generate(text, 5, stopped=interrupt))
    assert told(session, text, 3) == model.generate(np.array([text]), 3, temperature=0)[0, 600:].tolist()
    assert session.kept == 512  # the two blocks that were read before it


def test_another_user_of_the_model_is_noticed():
    model = build()
    one, two = Session(model), Session(model)
    text = PROMPT + told(one, PROMPT, 5)
    told(two, PROMPT[::-1], 5)
    assert told(one, text, 5) == without_cache(model, text, 5)[35:]
    assert one.kept == 0
    model.generate(np.array([PROMPT]), 2)
    told(one, text, 5)
    assert one.kept == 0
    told(one, text, 5)
    assert one.kept == 34
    answers = one.generate(PROMPT, 9, temperature=0), two.generate(PROMPT[::-1], 9, temperature=0)
    in_turns = list(zip(*answers, strict=True))
    assert [a.id for a, _ in in_turns] == without_cache(model, PROMPT, 9)[30:]
    assert [b.id for _, b in in_turns] == without_cache(model, PROMPT[::-1], 9)[30:]


def test_one_answer_at_a_time():
    session = Session(build())
    answer = session.generate(PROMPT, 9)
    next(answer)
    with pytest.raises(RuntimeError, match="an answer of this session is under way"):
        session.generate(PROMPT, 9)
    answer.close()
    assert len(told(session, PROMPT, 2)) == 2


def test_a_nan_is_refused_with_its_birth_and_forgotten():
    model = build()
    session = Session(model)
    weight = model.parameters()["blocks.1.attn.o_proj.weight"]
    kept = weight[3, 3]
    weight[3, 3] = math.nan
    with pytest.raises(loopos.NonFiniteError, match="no token can be chosen") as caught:
        list(session.generate(PROMPT, 3))
    assert caught.value.birth.tensor == "blocks.1.attn.o_proj.weight"
    weight[3, 3] = kept
    assert told(session, PROMPT, 3) == without_cache(model, PROMPT, 3)[30:]


def test_the_same_seed_and_settings_are_those_of_generate():
    model = build()
    session = Session(model)
    options = {"temperature": 0.9, "top_k": 20, "top_p": 0.9, "min_p": 0.01, "repetition_penalty": 1.2, "seed": 7}
    want = model.generate(np.array([PROMPT]), 15, **options)[0, 30:].tolist()
    assert told(session, PROMPT, 15, **options) == want
    assert told(session, PROMPT, 15, **options) == want


def test_refusals():
    session = Session(build())
    for given, error, words in [
        ({"ids": []}, ValueError, "ids must be 1 to 640 tokens"),
        ({"ids": [1, 61]}, IndexError, "from 0 to 60, got 61 at position 1"),
        ({"ids": [0.5]}, TypeError, "a sequence of integers"),
        ({"ids": [[1]]}, TypeError, "a sequence of integers"),
        ({"ids": [1], "max_new_tokens": -1}, ValueError, "max_new_tokens"),
        ({"ids": [1], "stop": "x"}, ValueError, "no tokenizer"),
        ({"ids": [1], "top_k": 0}, ValueError, "top_k"),
        ({"ids": [1], "seed": -1}, ValueError, "seed"),
    ]:
        with pytest.raises(error, match=f"^Session.generate: .*{words}"):
            session.generate(**given)


def test_half_a_character_of_an_answer_that_was_stopped_is_left_out():
    class Half:
        """Every token but id 0 is half a character."""

        def decode(self, ids):
            return "".join("a" if id == 0 else "\ufffd" for id in ids)

    model = loopos.Model(loopos.ModelConfig(31, 16, 1, 2, 16), seed=2)
    calls = iter(range(99))
    got = list(Session(model, Half()).generate([1, 2], 9, temperature=0, stopped=lambda: next(calls) >= 4))
    assert got[-1].finish_reason == "stopped"
    assert "\ufffd" not in got[-1].text
