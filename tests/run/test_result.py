"""What a training gives back, and what it says of it."""

import math
import subprocess
import sys
from pathlib import Path

import numpy as np

import loopos
from loopos.monitor.ladder import ladder
from loopos.monitor.verdict import FLAT, INSUFFICIENT, LEARNING, of_history
from loopos.run import result as results

CONFIG = loopos.ModelConfig(vocab_size=256, context_length=16, n_layer=1, n_head=2, d_model=32)
TEXT = "the quick brown fox jumps over the lazy dog, and again. " * 400


def train(data=TEXT, **kwargs):
    return loopos.train(CONFIG, data, **({"max_steps": 80, "log_every": 2, "progress": False} | kwargs))


def test_a_run_that_learns_is_told_so_with_its_rung():
    found = train(learning_rate=1e-2).verdict
    assert found.kind == LEARNING
    assert found.rung in ("below unigram", "bigram", "below bigram")
    assert f"ln V {math.log(256):.4g}" in found.says
    assert "\n" not in str(found)


def test_a_run_that_learns_nothing_is_flat_at_the_uniform_guess():
    found = train(learning_rate=0.0).verdict
    assert (found.kind, found.rung) == (FLAT, "uniform")
    assert "no update, a rate of 0" in found.says


def test_two_log_lines_are_insufficient_evidence():
    result = train(max_steps=2)
    assert len(result.history) == 2
    assert result.verdict.kind == INSUFFICIENT
    assert result.verdict.says.startswith("2 losses")


def test_a_dataset_has_no_ladder_and_updates_without_targets_do_not_count():
    class Data:
        def batch(self, step, micro):
            ids = np.full((2, 16), 7)
            return ids, np.full_like(ids, -100) if step % 2 else ids

    result = train(Data(), learning_rate=1e-2, log_every=1)
    assert result.sample is None
    assert result.verdict.rung is None
    assert result.verdict.kind == LEARNING
    assert result.verdict.used == 40


def test_the_sample_is_a_copy_of_the_first_tokens(monkeypatch):
    monkeypatch.setattr(results, "SAMPLE_TOKENS", 100)
    ids = np.arange(5000, dtype=np.int32) % 256
    sample = train(ids, max_steps=1).sample
    assert np.array_equal(sample, ids[:100])
    assert sample.base is None
    assert not np.shares_memory(sample, ids)


def test_the_verdict_is_made_once_and_only_when_asked(monkeypatch):
    result = train(max_steps=3)
    assert "verdict" not in vars(result)
    assert result.verdict is result.verdict
    assert "sample" not in repr(result)


def test_a_text_that_is_too_short_for_pairs_says_so():
    rungs = ladder(np.random.default_rng(0).integers(0, 256, 2000), 256)  # nearly every pair occurs once
    assert not rungs.pairs_known
    assert "too few data to know pairs" in str(rungs)
    assert rungs.rung(rungs.bigram)[0] == "below unigram"  # and not "bigram: attention is dead"
    assert ladder(np.arange(5000) % 7, 7).pairs_known


def test_what_is_no_number_is_left_out():
    entries = [{"loss": 3 - t / 10, "learning_rate": 1e-3} for t in range(20)]
    odd = [{"loss": "3"}, {"loss": True}, {"loss": None}, {"loss": 10**400}, {"step": 3}]
    found = of_history(odd + entries)
    assert (found.kind, found.used, found.nonfinite) == (LEARNING, 20, 4)
    assert of_history([]).kind == INSUFFICIENT


def test_importing_loopos_loads_no_verdict():
    loaded = "[name for name in sys.modules if name.startswith(('loopos.health', 'loopos.monitor.'))]"
    code = f"import sys, loopos; print({loaded})"
    run = subprocess.run(
        [sys.executable, "-c", code], capture_output=True, text=True, timeout=60, cwd=Path(loopos.__file__).parents[1]
    )
    watching = [f"loopos.monitor.{name}" for name in ("window", "course", "monitor", "movement", "put_back", "watch")]
    assert run.stdout.strip() == str(watching), run.stderr
