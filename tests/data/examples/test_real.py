"""Examples through the tokenizer and the chat template of the real model."""

from __future__ import annotations

import numpy as np
import pytest

import loopos
from loopos.data.sources import open_sources

CHAT = [
    {"role": "user", "content": "How far is Oro?"},
    {"role": "assistant", "content": "Nine days."},
    {"role": "user", "content": "And back?"},
    {"role": "assistant", "content": "Ten.\n\nOr more."},
]
RECORDS = [{"messages": CHAT}, {"prompt": "How far is Oro?", "completion": " Nine days."}, {"text": "Oro is far."}]


@pytest.mark.real
def test_examples_of_the_real_model(real_gguf):
    """Its template marks nothing and puts a system's turn first; the answers and their ends are learned. Packed and
    alone, the loss of the real weights is one, to 1e-6."""
    pytest.importorskip("gguf", reason="the extra [gguf]")
    model = loopos.gguf.read(real_gguf)
    tokenizer = model.tokenizer
    found = loopos.data.audit(RECORDS, tokenizer, 128)
    assert (found.empty_rows, found.ended, found.end_token) == (0, 3, "<|im_end|>")
    assert "[[Nine days.<|im_end|>]]\n<|im_start|>user" in found.sample
    assert found.sample.endswith("[[Ten.\n\nOr more.<|im_end|>]]\n")

    sizes = {"vocab_size": model.config.vocab_size, "context_length": 128, "tokenizer": tokenizer}
    packed = open_sources(RECORDS, batch_size=1, **sizes).train
    alone = open_sources(RECORDS, batch_size=3, pack=False, **sizes).train
    assert packed.rows == 1
    ids, targets, documents = packed.batch(0)
    together = model.loss(ids, targets, documents=documents)
    assert together == pytest.approx(model.loss(*alone.batch(0)), rel=1e-6)
    assert int((targets != -100).sum()) == int((alone.batch(0)[1] != -100).sum()) == int(np.sum(found.valid)) - 1
