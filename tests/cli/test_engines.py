"""loopos/cli/engines.py: what is said of folders that cannot answer is tested with the commands."""

import pytest

import loopos
from loopos.cli import engines


def test_a_run_on_bytes_writes_but_does_not_chat(tmp_path):
    config = loopos.ModelConfig(vocab_size=256, context_length=16, n_layer=1, n_head=2, d_model=16)
    loopos.train(config, "to be or not to be " * 20, max_steps=1, batch_size=2, output_dir=tmp_path, progress=False)
    engine = engines.writing("serve", {"folder": str(tmp_path)})
    assert engine.text_ids("to") == [116, 111]
    assert engine.eos == []
    with pytest.raises(ValueError, match=r"chat: the tokenizer of .* has no chat template"):
        engines.chatting("chat", {"folder": str(tmp_path)})
