"""loopos/text/folder.py: special tokens and templates in the forms that folders have, and what is written."""

import json

import pytest

from loopos import CheckpointError, Tokenizer
from loopos.text import find

CHAT = [{"role": "user", "content": "x"}]


@pytest.fixture
def folder(made, tmp_path):
    made.save(str(tmp_path / "tokenizer.json"))
    return tmp_path


def put(folder, name, value):
    (folder / name).parent.mkdir(exist_ok=True)
    (folder / name).write_text(value if isinstance(value, str) else json.dumps(value), encoding="utf-8")


@pytest.mark.parametrize(
    ("name", "value"),
    [
        ("tokenizer_config.json", {"chat_template": "A"}),
        ("tokenizer_config.json", {"chat_template": [{"name": "default", "template": "A"}]}),
        ("chat_template.json", {"chat_template": "A"}),
        ("chat_template.jinja", "A"),
    ],
)
def test_the_forms_of_a_template(folder, name, value):
    put(folder, name, value)
    tokenizer = Tokenizer.from_pretrained(folder)
    assert tokenizer.chat_template == "A"
    assert tokenizer.apply_chat_template(CHAT) == "A"


def test_named_templates_and_which_file_wins(folder):
    named = [{"name": "default", "template": "A"}, {"name": "rag", "template": "B"}]
    put(folder, "tokenizer_config.json", {"chat_template": named})
    put(folder, "chat_template.json", {"chat_template": "C"})
    tokenizer = Tokenizer.from_pretrained(folder)
    assert tokenizer.templates == {"default": "A", "rag": "B"}
    assert tokenizer.apply_chat_template(CHAT, template="rag") == "B"
    with pytest.raises(ValueError, match="has no chat template 'sql'; it has 'default', 'rag'"):
        tokenizer.apply_chat_template(CHAT, template="sql")
    put(folder, "chat_template.jinja", "D")
    put(folder, "additional_chat_templates/tool_use.jinja", "E")
    tokenizer = Tokenizer.from_pretrained(folder)
    assert tokenizer.templates == {"default": "D", "tool_use": "E"}
    assert tokenizer.apply_chat_template(CHAT, tools=[{"name": "f"}]) == "E"


def test_special_tokens_of_either_file(folder):
    put(folder, "special_tokens_map.json", {"eos_token": {"content": "<eos>", "lstrip": False}, "pad_token": "a"})
    put(folder, "tokenizer_config.json", {"pad_token": "b", "eos_token": None})
    tokenizer = Tokenizer.from_pretrained(folder)
    assert tokenizer.eos == 0
    assert tokenizer.pad == tokenizer.token_to_id("b")


@pytest.mark.parametrize(
    ("name", "value", "message"),
    [
        ("tokenizer_config.json", "{", r"tokenizer_config\.json.*not valid JSON"),
        ("tokenizer_config.json", "[]", r"tokenizer_config\.json.*expected a JSON object"),
        ("tokenizer_config.json", {"chat_template": 3}, "chat_template must be a text or a list of name and template"),
        ("tokenizer_config.json", {"chat_template": [{"name": "x"}]}, "chat_template must be a text or a list"),
        ("special_tokens_map.json", "[" * 100, "JSON of more than 32 levels"),
    ],
)
def test_malformed_files_are_named(folder, name, value, message):
    put(folder, name, value)
    with pytest.raises(CheckpointError, match=message):
        Tokenizer.from_pretrained(folder)


def test_a_template_that_is_no_text(folder):
    (folder / "chat_template.jinja").write_bytes(b"\xff")
    with pytest.raises(CheckpointError, match=r"chat_template\.jinja.*must be UTF-8"):
        Tokenizer.from_pretrained(folder)


def test_what_is_saved_is_the_same_again(folder, tmp_path, made):
    made.add_special_tokens(["<added>"])
    templates = {"default": "{{ eos_token }}ä", "rag": "B"}
    tokenizer = Tokenizer(made, config={"eos_token": "<eos>", "padding_side": "left"}, templates=templates)
    out = tmp_path / "out"
    tokenizer.save(out)
    put(out, "additional_chat_templates/old.jinja", "of another tokenizer")
    put(out, "chat_template.json", {"chat_template": "of another tokenizer"})
    tokenizer.save(out)
    again = Tokenizer.from_pretrained(out)
    assert again == tokenizer
    assert (again.templates, again.eos, again.vocab_size) == (templates, 0, 281)
    assert again.config["padding_side"] == "left"
    assert again.apply_chat_template(CHAT) == "<eos>ä"
    assert again.encode("a<added>") == tokenizer.encode("a<added>")


@pytest.mark.reference
def test_transformers_opens_what_is_saved(made, tmp_path):
    transformers = pytest.importorskip("transformers", reason="the extra [reference]")
    made.post_processor = None
    made.add_special_tokens(["<added>"])
    template = "{% for m in messages %}{{ m.content }}{{ eos_token }}{% endfor %}"
    ours = Tokenizer(made, config={"eos_token": "<eos>", "pad_token": "<eos>"}, templates={"default": template})
    ours.save(tmp_path)
    theirs = transformers.AutoTokenizer.from_pretrained(tmp_path)
    text = "the cat 😀<added> and  his\n\nmill<eos>"
    assert theirs.encode(text, add_special_tokens=False) == ours.encode(text)
    assert theirs.decode(ours.encode(text)) == ours.decode(ours.encode(text)) == text
    assert (theirs.eos_token_id, theirs.pad_token_id, theirs.bos_token_id) == (ours.eos, ours.pad, ours.bos)
    assert theirs.apply_chat_template(CHAT, tokenize=False) == ours.apply_chat_template(CHAT)
    theirs.add_tokens(["<more>"])
    theirs.save_pretrained(tmp_path / "theirs")
    again = Tokenizer.from_pretrained(tmp_path / "theirs")
    assert again.encode(f"{text}<more>") == theirs.encode(f"{text}<more>", add_special_tokens=False)
    assert again.vocab_size == len(theirs) == ours.vocab_size + 1
    assert (again.eos, again.chat_template) == (ours.eos, template)


def test_where_a_tokenizer_is_looked_for(folder, tmp_path):
    run = tmp_path / "run"
    (run / "step-00000001").mkdir(parents=True)
    (run / "step-00000001" / "state.json").write_text("{}")
    assert find(run) is find(run / "step-00000001") is find(tmp_path / "none") is None
    (run / "pretrained").mkdir()
    (run / "pretrained" / "tokenizer.json").write_bytes((folder / "tokenizer.json").read_bytes())
    assert find(run) == find(run / "step-00000001") == run / "pretrained" / "tokenizer.json"
    assert find(folder) == find(folder / "tokenizer.json") == folder / "tokenizer.json"
