"""loopos/serve/answers.py: pieces and wholes of one answer agree."""

from loopos.generation.session import Piece
from loopos.serve.answers import Answer, chat_style, completion_style

FIRST = [Piece(5, "a "), Piece(6, ""), Piece(7, "b", "stop")]
PIECES = [*((0, piece) for piece in FIRST), (1, Piece(8, "c")), (1, Piece(None, "", "context"))]


def test_the_pieces_of_a_stream_make_the_whole():
    for style in (completion_style("m"), chat_style("m")):
        answer = Answer(style, 2, 7)
        parts = answer.opening()
        for choice, piece in PIECES:
            answer.add(choice, piece)
            parts.append(answer.piece(choice, piece))
        whole = answer.whole()
        assert whole["usage"] == {"prompt_tokens": 7, "completion_tokens": 4, "total_tokens": 11}
        assert answer.closing()["usage"] == whole["usage"]
        for choice in whole["choices"]:
            mine = [part["choices"][0] for part in parts if part["choices"][0]["index"] == choice["index"]]
            texts = [p["delta"].get("content", "") if style.chat else p["text"] for p in mine]
            assert "".join(texts) == (choice["message"]["content"] if style.chat else choice["text"])
            assert mine[-1]["finish_reason"] == choice["finish_reason"]
        assert {part["id"] for part in parts} == {whole["id"]}


def test_two_answers_have_two_ids():
    assert Answer(chat_style("m"), 1, 1).id != Answer(chat_style("m"), 1, 1).id
