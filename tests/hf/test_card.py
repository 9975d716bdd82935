"""The model card: what it says, and whose it is."""

from __future__ import annotations

import re

import numpy as np
import pytest

import loopos
from loopos.hf.card import README, card, replaceable

CONFIG = loopos.ModelConfig(256, 16, 1, 2, 16)
TEXT = "to be or not to be. " * 30


def trained(**options):
    return loopos.train(CONFIG, TEXT, **{"max_steps": 4, "progress": False} | options)


@pytest.fixture
def written(tmp_path):
    result = trained(eval_data=TEXT, eval_every=2)
    result.model.save_pretrained(tmp_path)
    return result, (tmp_path / README).read_text()


def front_matter(text):
    return re.match(r"---\n(.*?)\n---\n", text, re.S)[1].splitlines()


def test_it_says_what_the_run_was(written):
    result, text = written
    record = result.model.record
    assert front_matter(text) == [
        "library_name: transformers",
        "pipeline_tag: text-generation",
        "tags:",
        "- loopos",
        "- gpt2",
    ]
    assert record["data"]["sha256"] in text
    assert f"- data: {len(TEXT)} tokens" in text
    assert "- updates: 4\n" in text
    assert "| learning_rate | 0.0003 |" in text
    first, last = result.history[0], result.history[-1]
    assert f"| training | {first['loss']:.4f} (update 1) | {last['loss']:.4f} (update 4) |" in text
    evaluated = [entry for entry in result.history if "eval_loss" in entry]
    assert f"| held-out | {evaluated[0]['eval_loss']:.4f} (update 2) | {last['eval_loss']:.4f} (update 4) |" in text
    assert str(result.verdict) in text
    assert f"LoopOS {loopos.__version__}" in text
    assert "AutoModelForCausalLM.from_pretrained" in text


def test_a_model_that_was_not_trained_has_none(tmp_path):
    loopos.Model(CONFIG).save_pretrained(tmp_path)
    assert not (tmp_path / README).exists()


def test_a_card_is_renewed_until_a_person_changes_it(written, tmp_path):
    longer = trained(max_steps=6).model
    longer.save_pretrained(tmp_path)
    card_path = tmp_path / README
    assert "- updates: 6\n" in card_path.read_text()
    card_path.write_text(card_path.read_text() + "It likes Hamlet.\n")
    theirs = card_path.read_text()
    trained(max_steps=8).model.save_pretrained(tmp_path)
    assert card_path.read_text() == theirs


@pytest.mark.parametrize("content", [b"# mine\n", b"", b"\xff" * 99, b"x" * (2 << 20)])
def test_what_a_person_wrote_stays(tmp_path, content):
    (tmp_path / README).write_bytes(content)
    trained().model.save_pretrained(tmp_path)
    assert (tmp_path / README).read_bytes() == content


def test_a_link_or_a_folder_stays(tmp_path):
    (tmp_path / README).symlink_to(tmp_path / "nowhere")
    assert not replaceable(tmp_path / README)
    assert not replaceable(tmp_path)


def test_the_base_model_is_named_where_config_json_names_it(written):
    record = written[0].model.record
    text = card(record, {"model_type": "llama", "_name_or_path": "someone/Small-1.0"}).decode()
    assert "base_model: someone/Small-1.0" in front_matter(text)
    assert "The weights before are those of someone/Small-1.0." in text
    for other in ("/home/me/model", "a: b\nc: d", 7, None):
        text = card(record, {"model_type": "llama", "_name_or_path": other}).decode()
        assert len(front_matter(text)) == 5
        assert "config.json names no model" in text


def test_findings_and_what_is_not_finite_are_told(written):
    record = written[0].model.record | {"findings": ["step 3: the loss rose"], "findings_in_all": 5}
    record["losses"] = {"first_loss": {"step": 1, "value": 2.0}, "last_loss": {"step": 3, "value": None}}
    text = card(record, {"model_type": "llama"}).decode()
    assert "found 5 implausible:\n\n- step 3: the loss rose\n- and 4 more" in text
    assert "| training | 2.0000 (update 1) | not finite (update 3) |" in text
    assert "Nothing was held out" in text


def test_runs_before_are_named(tmp_path):
    model = trained().model
    loopos.train(model, TEXT[:400], max_steps=3, progress=False).model.save_pretrained(tmp_path)
    text = (tmp_path / README).read_text()
    assert "- data: 400 tokens" in text
    assert f"- 4 updates, {4 * 12 * 16:,} tokens learned; data 600 tokens" in text


@pytest.mark.reference
def test_hugging_face_reads_the_front_matter(written, tmp_path):
    hub = pytest.importorskip("huggingface_hub", reason="compares with huggingface_hub, which comes with transformers")
    data = hub.ModelCard.load(tmp_path / README).data
    assert data.library_name == "transformers"
    assert data.tags == ["loopos", "gpt2"]


def test_the_weights_are_not_touched(written, tmp_path):
    loaded = loopos.Model.from_pretrained(tmp_path)
    mine, theirs = written[0].model.state_dict(), loaded.state_dict()
    assert all(np.array_equal(mine[name], theirs[name]) for name in mine)
