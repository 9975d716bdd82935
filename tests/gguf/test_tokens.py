"""loopos/gguf/tokens.py: what of a tokenizer reaches a file, and tokenizers that have no form there."""

import json

import pytest

import loopos
from loopos import Tokenizer
from loopos.data.tokenizer import ByteTokenizer
from loopos.gguf.tokens import metadata_of

tokenizers = pytest.importorskip("tokenizers", reason="the extra [gguf]")


def test_texts_types_and_special_ids(llama):
    model = llama()
    found = metadata_of(model)
    tokens, types = found["tokenizer.ggml.tokens"], found["tokenizer.ggml.token_type"]
    assert len(tokens) == len(types) == 300  # of the embedding; the tokenizer has fewer
    assert [tokens[i] for i in (0, 1, 2)] == ["<|endoftext|>", "<|im_start|>", "<|im_end|>"]
    assert types[:4] == [3, 3, 3, 1]
    assert types[tokens.index("miller")] == 4
    assert tokens[-1] == "[PAD299]"
    assert types[-1] == 5
    assert len(set(tokens)) == 300
    assert found["tokenizer.ggml.pre"] == "gpt-2"
    assert (found["tokenizer.ggml.eos_token_id"], found["tokenizer.ggml.bos_token_id"]) == (2, 1)
    assert found["tokenizer.ggml.add_bos_token"] is found["tokenizer.ggml.add_eos_token"] is False
    assert found["tokenizer.chat_template"] == model.tokenizer.chat_template
    assert "tokenizer.ggml.padding_token_id" not in found


def test_a_second_stop_token_ends_a_turn(llama):
    model = llama()
    model.stop_ids = [2, 0]
    found = metadata_of(model)
    assert (found["tokenizer.ggml.eos_token_id"], found["tokenizer.ggml.eot_token_id"]) == (2, 0)
    del model.tokenizer.config["eos_token"]
    found = metadata_of(model)
    assert (found["tokenizer.ggml.eos_token_id"], found["tokenizer.ggml.eot_token_id"]) == (2, 0)


def test_what_is_put_in_front_of_a_text(llama):
    model = llama()
    model.tokenizer.backend.post_processor = tokenizers.processors.TemplateProcessing(
        single="<|im_start|> $A", special_tokens=[("<|im_start|>", 1)]
    )
    assert metadata_of(model)["tokenizer.ggml.add_bos_token"] is True


def test_a_model_of_bytes_has_none(llama):
    model = loopos.Model(llama().config)
    assert metadata_of(model) == {"tokenizer.ggml.model": "none"}
    model.tokenizer = ByteTokenizer()
    assert metadata_of(model) == {"tokenizer.ggml.model": "none"}


@pytest.mark.parametrize(
    ("change", "message"),
    [
        ({"pre_tokenizer": {"type": "Whitespace"}}, "llama.cpp has no name for the pre-tokenizer"),
        ({"normalizer": {"type": "Lowercase"}}, "llama.cpp has no normalizer Lowercase for byte-level BPE"),
        ({"ignore_merges": True}, r"with this pre-tokenizer \(gpt-2\) llama.cpp has ignore_merges False"),
        (
            {"type": "WordLevel", "vocab": {"a": 0}, "unk_token": "a"},
            "a tokenizer of the kind WordLevel has no GGUF form",
        ),
    ],
)
def test_what_has_no_form(llama, change, message):
    model = llama()
    said = json.loads(model.tokenizer.backend.to_str())
    for key, value in change.items():
        (said["model"] if key in ("ignore_merges", "type", "vocab", "unk_token") else said)[key] = value
    if "vocab" in change:
        said["model"], said["added_tokens"] = change, []
    model.tokenizer = Tokenizer(tokenizers.Tokenizer.from_str(json.dumps(said)))
    with pytest.raises(ValueError, match=message):
        metadata_of(model)


def test_sentencepiece_comes_back(llama, tmp_path):
    pieces = ["<unk>", "<s>", "</s>", *(f"<0x{b:02X}>" for b in range(256)), "▁", "a", "b", "c", "ab", "▁ab", "abc"]
    vocab = {piece: id for id, piece in enumerate(pieces)}
    merges = [["a", "b"], ["▁", "ab"], ["ab", "c"]]
    spaces = {"type": "Replace", "pattern": {"String": " "}, "content": "▁"}
    back = {"type": "Replace", "pattern": {"String": "▁"}, "content": " "}
    special = {"single_word": False, "lstrip": False, "rstrip": False, "normalized": False, "special": True}
    said = {
        "version": "1.0",
        "added_tokens": [{"id": id, "content": pieces[id], **special} for id in range(3)],
        "normalizer": {"type": "Sequence", "normalizers": [{"type": "Prepend", "prepend": "▁"}, spaces]},
        "decoder": {"type": "Sequence", "decoders": [back, {"type": "ByteFallback"}, {"type": "Fuse"}]},
        "model": {
            "type": "BPE", "unk_token": "<unk>", "fuse_unk": True, "byte_fallback": True, "vocab": vocab,
            "merges": merges,
        },
    }  # fmt: skip
    model = llama()
    model.tokenizer = Tokenizer(tokenizers.Tokenizer.from_str(json.dumps(said)), config={"bos_token": "<s>"})
    found = metadata_of(model)
    assert found["tokenizer.ggml.model"] == "llama"
    assert found["tokenizer.ggml.add_space_prefix"] is True
    assert found["tokenizer.ggml.token_type"][:4] == [2, 3, 3, 6]
    loopos.gguf.write(model, tmp_path / "m.gguf", "f16")
    again = loopos.gguf.read(tmp_path / "m.gguf").tokenizer
    for text in ("abc ab", "é ab", "a  b", "</s>ab"):
        assert again.encode(text) == model.tokenizer.encode(text)
    assert again.bos == 1
