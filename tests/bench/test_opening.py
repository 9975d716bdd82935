"""Opening a model in a process of its own."""

from __future__ import annotations

import pytest

import loopos
from loopos.bench import opening
from loopos.bench.process import PeerError
from loopos.bench.settings import TINY


def test_the_time_and_the_memory_of_a_process(tmp_path):
    loopos.Model(TINY["tiny"].config).save_pretrained(tmp_path / "model")
    found = opening.once("loopos", tmp_path / "model", 1)
    assert found.engine == f"loopos {loopos.__version__}"
    assert found.seconds > 0
    assert found.peak_rss > 1 << 20


def test_why_it_failed(tmp_path, without):
    with pytest.raises(PeerError, match=r"config\.json"):
        opening.once("loopos", tmp_path, 1)
    without("transformers")
    with pytest.raises(PeerError, match="transformers is not installed"):
        opening.once("transformers", tmp_path, 1)
