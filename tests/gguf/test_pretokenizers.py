"""loopos/gguf/pretokenizers.py: names, and how the pieces are cut."""

import pytest

from loopos.gguf.pretokenizers import CUTS, GPT2, LLAMA3, QWEN2, name_of, named

tokenizers = pytest.importorskip("tokenizers", reason="the extra [gguf]")

TEXT = "I'LL don't 12345 ab12  \n\n x_y!!\t¿é你好 ½ １２３  "


def pieces(pre_tokenizer):
    model = '{"type": "BPE", "vocab": {}, "merges": []}'
    import json

    made = tokenizers.Tokenizer.from_str(
        json.dumps({"version": "1.0", "added_tokens": [], "model": json.loads(model), "pre_tokenizer": pre_tokenizer})
    )
    return [piece for piece, _ in made.pre_tokenizer.pre_tokenize_str(TEXT)]


@pytest.mark.parametrize("name", CUTS)
def test_a_name_comes_back(name):
    assert name_of(CUTS[name].pre_tokenizer()) == name
    assert "".join(pieces(CUTS[name].pre_tokenizer())) == "".join(pieces(CUTS["gpt-2"].pre_tokenizer()))


def test_what_models_have_in_their_tokenizer_json():
    byte = {"type": "ByteLevel", "add_prefix_space": False, "trim_offsets": True, "use_regex": True}
    plain = byte | {"use_regex": False, "trim_offsets": False}
    split = {"type": "Split", "behavior": "Isolated", "invert": False}

    def both(first, second):
        return {"type": "Sequence", "pretokenizers": [first, second]}

    assert name_of(byte) == name_of(both(split | {"pattern": {"Regex": GPT2}}, plain)) == "gpt-2"
    assert name_of(both({"type": "Digits", "individual_digits": True}, byte)) == "smollm"
    assert name_of(both(split | {"pattern": {"Regex": LLAMA3}}, plain)) == "llama-bpe"
    assert name_of(both(split | {"pattern": {"Regex": QWEN2}}, plain)) == "qwen2"
    assert name_of(both(split | {"pattern": {"Regex": "x"}}, plain)) is None
    assert name_of(byte | {"add_prefix_space": True}) is None
    assert name_of({"type": "Whitespace"}) is None
    assert name_of(None) is None


def test_what_they_cut_apart():
    for name, digits in (("smollm", 1), ("qwen2", 1), ("llama-bpe", 3), ("gpt-2", 5)):
        cut = pieces(named(name).pre_tokenizer())
        assert (
            max(len(piece.strip("Ġ")) for piece in cut if piece.strip("Ġ").isascii() and piece.strip("Ġ").isdigit())
            == digits
        )
    assert named("starcoder") is CUTS["smollm"]
    assert named("llama3") is CUTS["llama-bpe"]
    assert named("nobody") is None
