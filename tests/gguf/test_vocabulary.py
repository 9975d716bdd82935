"""loopos/gguf/vocabulary.py: a tokenizer out of metadata, byte-level and SentencePiece's."""

import numpy as np
import pytest

import loopos
from loopos import CheckpointError
from loopos.gguf.vocabulary import stops_of, tokenizer_of

gguf = pytest.importorskip("gguf", reason="the extra [gguf]")
tokenizers = pytest.importorskip("tokenizers", reason="the extra [gguf]")

KINDS = gguf.GGUFValueType
NORMAL, UNKNOWN, CONTROL, USER, UNUSED, BYTE = 1, 2, 3, 4, 5, 6
BYTES = [f"<0x{byte:02X}>" for byte in range(256)]
PIECES = ["▁", "a", "b", "c", "ab", "▁a", "▁ab", "abc", "▁abc"]


@pytest.fixture
def file(tmp_path, metadata):
    """file(**values): the metadata of a file of these tokenizer values; a list or text as it is, an int as uint32."""

    def make(**values):
        writer = gguf.GGUFWriter(tmp_path / "m.gguf", "llama")
        writer.add_context_length(64)
        for name, value in values.items():
            key = name if name.startswith("tokenizer.chat") else f"tokenizer.ggml.{name}"
            kinds = {list: KINDS.ARRAY, str: KINDS.STRING, bool: KINDS.BOOL, int: KINDS.UINT32}
            writer.add_key_value(key, value, kinds[type(value)])
        writer.write_header_to_file()
        writer.write_kv_data_to_file()
        writer.close()
        return metadata(tmp_path / "m.gguf")

    return make


def sentencepiece(**changed):
    tokens = ["<unk>", "<s>", "</s>", *BYTES, *PIECES, "<turn>", "\n\n", "[PAD1]"]
    types = [UNKNOWN, CONTROL, CONTROL, *[BYTE] * 256, *[NORMAL] * len(PIECES), CONTROL, USER, UNUSED]
    scores = [0.0] * 259 + [-float(i) for i in (9, 8, 7, 6, 1, 2, 3, 5, 4)] + [0.0] * 3
    return {
        "model": "llama", "tokens": tokens, "token_type": types, "scores": scores, "bos_token_id": 1, "eos_token_id": 2,
        "unknown_token_id": 0,
    } | changed  # fmt: skip


def test_sentencepiece_joins_the_best_and_falls_back_to_bytes(file):
    made = tokenizer_of(file(**sentencepiece()), 300)
    at = {token: id for id, token in enumerate(sentencepiece()["tokens"])}

    def text(*tokens):
        return [at[token] for token in tokens]

    assert made.encode("abc") == text("▁", "abc") or made.encode("abc") == text("▁abc")
    assert made.encode("ab") == text("▁ab")
    assert made.encode("a é") == text("▁a", "▁", "<0xC3>", "<0xA9>")
    assert made.encode("a<turn>b\n\n") == text("▁a", "<turn>", "▁", "b", "\n\n")
    for said in ("abc ab", "é 你好", " a  b "):
        assert made.decode(made.encode(said)) == said
    assert made.encode("ab", add_special_tokens=True) == text("<s>", "▁ab")
    assert (made.bos, made.eos, made.special("unk_token")) == (1, 2, 0)
    assert made.vocab_size == len(at) - 1  # the unused one is none


def test_sentencepiece_without_a_space_in_front(file):
    made = tokenizer_of(file(**sentencepiece(add_space_prefix=False, add_bos_token=False, add_eos_token=True)), 300)
    ids = made.encode("ab c", add_special_tokens=True)
    assert made.decode(ids) == "ab c</s>"
    assert made.id_to_token(ids[0]) == "ab"


def byte_level(**changed):
    alphabet = sorted(tokenizers.pre_tokenizers.ByteLevel.alphabet())
    tokens = [*alphabet, "he", "ll", "hell", "hello", "<eot>", "<bos>", "Ġhello"]
    types = [*[NORMAL] * 260, CONTROL, CONTROL, NORMAL]
    merges = ["h e", "l l", "he ll", "hell o"]
    return {"model": "gpt2", "pre": "llama-bpe", "tokens": tokens, "token_type": types, "merges": merges,
            "bos_token_id": 261, "eos_token_id": 260} | changed  # fmt: skip


def test_byte_level_with_its_pre_tokenizer(file):
    made = tokenizer_of(file(**byte_level()), 300)
    tokens = byte_level()["tokens"]
    assert [tokens[id] for id in made.encode("hello hello<eot>")] == [
        "hello",
        "Ġhello",
        "<eot>",
    ]  # whole, without a merge
    assert made.encode("x", add_special_tokens=True)[0] == made.bos == 261
    other = tokenizer_of(file(**byte_level(pre="gpt-2")), 300)
    assert [tokens[id] for id in other.encode("hello hello")] == ["hello", "Ġ", "hello"]
    assert other.encode("x", add_special_tokens=True) == other.encode("x")
    composed = tokenizer_of(file(**byte_level(pre="qwen2")), 300)
    assert composed.decode(composed.encode("e\u0301")) == "é"


def test_templates_and_what_ends_an_answer(file):
    found = file(**byte_level(eot_token_id=261), **{"tokenizer.chat_template": "A", "tokenizer.chat_template.rag": "B"})
    assert tokenizer_of(found, 300).templates == {"default": "A", "rag": "B"}
    assert stops_of(found) == [260, 261]


def test_a_file_without_a_tokenizer(file):
    assert tokenizer_of(file(), 300) is None
    assert tokenizer_of(file(model="none"), 300) is None


@pytest.mark.parametrize(
    ("values", "error", "message"),
    [
        ({"model": "bert"}, ValueError, "the tokenizer 'bert' is not supported; these are: gpt2, llama"),
        ({"model": "gpt2"}, CheckpointError, r"tokenizer\.ggml\.tokens is missing"),
        (byte_level(pre="nobody"), ValueError, "the pre-tokenizer 'nobody' is not supported; these are: smollm"),
        (byte_level(merges=["h x y"]), CheckpointError, "the merge 'h x y' is not of tokens"),
        (byte_level(merges=["h"]), CheckpointError, "the merge 'h' is not of tokens"),
        (byte_level(token_type=[1]), CheckpointError, "263 tokens and 1 types of tokens"),
        (byte_level(eos_token_id=263), CheckpointError, "eos_token_id is 263, and there are 263 tokens"),
        ({"model": "gpt2", "tokens": ["a", "a"]}, CheckpointError, "the token 'a' occurs twice"),
        (sentencepiece(scores=[1.0]), CheckpointError, "271 tokens and 1 scores"),
        (sentencepiece(scores=[float("nan")] * 271), CheckpointError, "a score is not finite"),
        (byte_level(tokens="x"), CheckpointError, r"tokenizer\.ggml\.tokens must be a list of texts"),
    ],
)
def test_what_is_refused(file, values, error, message):
    with pytest.raises(error, match=message):
        tokenizer_of(file(**values), 300)


def test_more_tokens_than_rows(file):
    with pytest.raises(CheckpointError, match="there are 263 tokens, and the embedding has 262 rows"):
        tokenizer_of(file(**byte_level()), 262)


def test_duplicates_are_found(file):
    values = byte_level()
    values["tokens"][262] = "hello"
    with pytest.raises(CheckpointError, match="the token 'hello' occurs twice"):
        tokenizer_of(file(**values), 300)


def test_both_ids_that_end_an_answer_reach_generation_config(llama, tmp_path):
    import json

    model = llama()
    loopos.gguf.write(model, tmp_path / "m.gguf", "f32")
    loopos.gguf.read(tmp_path / "m.gguf").save_pretrained(tmp_path / "hf")
    path = tmp_path / "hf" / "generation_config.json"
    assert json.loads(path.read_text())["eos_token_id"] == model.tokenizer.eos
    path.write_text(json.dumps({"eos_token_id": [model.tokenizer.eos, 0]}))
    loopos.gguf.write(loopos.Model.from_pretrained(tmp_path / "hf"), tmp_path / "m.gguf", "f32")
    loopos.gguf.read(tmp_path / "m.gguf").save_pretrained(tmp_path / "again")
    again = json.loads((tmp_path / "again" / "generation_config.json").read_text())
    assert again["eos_token_id"] == [model.tokenizer.eos, 0]
    assert np.isin(again["eos_token_id"], np.arange(300)).all()
