"""What a run will take, against what it took."""

from __future__ import annotations

import subprocess
import sys
from pathlib import Path

import numpy as np
import pytest

import loopos
from loopos.distributed import Distributed
from loopos.distributed.alone import Alone
from loopos.distributed.ranks import Ranks
from loopos.run import forecast
from loopos.run.forecast import Forecast, Memory, memory_of, refuse_unfitting, with_checkpoints
from loopos.training import default_settings

MEASURE = """
import sys
import numpy as np, loopos
from loopos.run.forecast import memory_of
from loopos.training import default_settings
vocab, context, layers, width, batch, rule, more = eval(sys.argv[1])
again, taught, rank = more.pop("again", False), more.pop("taught", False), more.pop("rank", 0)
class Numbers:
    vocab_size, eos = vocab, 0
    def encode(self, text): return [int(word) for word in text.split()]
    def decode(self, ids): return " ".join(map(str, ids))
def new(): return loopos.Model(loopos.ModelConfig(vocab, context, layers, 4, width))
def text(): return " ".join(map(str, np.random.default_rng(0).integers(1, vocab, context)))
model, how = new(), {"progress": False}
ids = np.random.default_rng(0).integers(0, vocab, 100_000)
options = {"batch_size": batch, "optimizer": rule, "max_steps": 3} | more
if rank:
    model.add_adapter(loopos.LoRA(rank))
if "task" in more:
    ids = [{"prompt": "1 ", "chosen": text(), "rejected": text() + " 1"}] * 3 * batch
    how["tokenizer"] = Numbers()
if taught:
    how["teacher"] = "self" if rank else new()
if again:  # what a first run leaves is used again
    loopos.train(model, ids, **options, **how)
settings = default_settings(**options | {"teacher": taught and ("self" if rank else "model") or None}).to_dict()
told = memory_of(model, settings, context, teacher=how.get("teacher")).peak
loopos.train(model, ids, **options, **how)
peak = int(open('/proc/self/status').read().partition('VmHWM:')[2].split()[0]) * 1024  # ru_maxrss has the parent's too
print(told / peak)
"""


@pytest.mark.unsanitized("the sanitizers' allocator takes memory of its own")
@pytest.mark.parametrize(
    "shape",
    [
        (256, 64, 4, 128, 12, "adamw", {}),
        (8000, 128, 2, 256, 4, "adamw", {}),
        (8000, 128, 2, 256, 4, "adamw", {"again": True}),
        (8000, 64, 2, 256, 2, "adamw", {"on_nonfinite": "rewind"}),
        (8000, 16, 2, 256, 8, "adamw", {"shards": 8}),
        (256, 256, 4, 256, 16, "sgd", {}),
        (4000, 64, 6, 384, 2, "lion", {}),
        (8000, 128, 2, 256, 4, "adamw", {"taught": True}),
        (8000, 128, 2, 256, 4, "adamw", {"taught": True, "rank": 4, "distill": "mse"}),
        (8000, 128, 2, 256, 4, "adamw", {"taught": True, "task": "dpo"}),
        (8000, 128, 2, 256, 4, "adamw", {"rank": 4, "task": "dpo"}),
    ],
    ids=str,
)
def test_the_peak_is_within_15_percent(shape):
    beside = Path(loopos.__file__).parents[1]
    command = [sys.executable, "-c", MEASURE, str(shape)]
    run = subprocess.run(command, capture_output=True, text=True, timeout=240, cwd=beside)
    assert run.returncode == 0, run.stderr
    assert 0.85 < float(run.stdout) < 1.15


def test_what_a_teacher_takes():
    """Its answers, of kl a tile of its logits, of another model its own passes; pairs are two rows."""
    model = loopos.Model(loopos.ModelConfig(500, 16, 2, 2, 16))
    other = loopos.Model(loopos.ModelConfig(500, 16, 1, 2, 48))

    def told(**options):
        return memory_of(model, default_settings(batch_size=4, **options).to_dict(), 16)

    plain, own, rows = told(), told(teacher="self"), told(teacher="self", distill="mse")
    assert plain.teacher == 0
    assert own.teacher == 4 * 16 * 16 * 4
    assert own.activations - plain.activations >= 4 * 16 * 500 * 4
    assert rows.activations < plain.activations
    passes = int(other._core.workspace_bytes(4, 16, False, scored=False))
    assert memory_of(model, default_settings(batch_size=4, teacher="model").to_dict(), 16, teacher=other).teacher == (
        4 * 16 * 48 * 4 + passes
    )
    pairs = told(task="dpo")
    assert (pairs.batches, pairs.teacher) == (2 * plain.batches, 0)
    assert pairs.activations == memory_of(model, default_settings(batch_size=8).to_dict(), 16).activations
    assert told(task="dpo", teacher="model").teacher == int(model._core.workspace_bytes(8, 16, False))


def test_moments_are_those_of_the_rule():
    model = loopos.Model(loopos.ModelConfig(50, 16, 2, 2, 16))
    numbers = 4 * sum(view.size for view in model.parameters().values())
    for rule, kept in (("adamw", 2), ("lion", 1), ("sgd", 0)):
        assert memory_of(model, default_settings(optimizer=rule).to_dict(), 16).moments == kept * numbers


def test_the_batches_of_an_update_are_counted():
    model = loopos.Model(loopos.ModelConfig(50, 16, 2, 2, 16))
    one, four = (memory_of(model, default_settings(grad_accum=n).to_dict(), 16).batches for n in (1, 4))
    assert four == 4 * one == 4 * (2 * 8 * 12 * 16)  # ids and targets of int64


MEMORY = Memory(now=0, gradients=1, moments=2, activations=3, batches=4, snapshot=5)


def test_evaluations_and_checkpoints_take_their_time():
    found = Forecast(MEMORY, update=2.0, updates=10, evaluation=3.0, evaluations=2, checkpoint=0.5, checkpoints=1)
    assert found.to_dict()["seconds"] == 26.5
    assert MEMORY.peak == 15
    assert "time about 26 s (10 updates of 2 s, 2 evaluations of 3 s, 1 checkpoint of 0.5 s)" in str(found)
    assert str(Forecast(MEMORY, update=2.0, updates=1)).endswith("time about 2 s (1 update of 2 s)")


def test_checkpoints_are_those_of_the_run_and_the_best_ones(monkeypatch):
    asked = []
    monkeypatch.setattr(forecast.timing, "checkpoint_seconds", lambda *given: asked.append(given) or 7.0)
    model = loopos.Model(loopos.ModelConfig(50, 16, 1, 2, 16))
    found = Forecast(MEMORY, update=1.0, updates=10, evaluation=1.0, evaluations=3)
    for every, best, times in ((None, False, 1), (4, False, 3), (5, False, 2), (5, True, 5)):
        told = with_checkpoints(found, model, "run", every, best)
        assert (told.checkpoint, told.checkpoints) == (7.0, times)
    weights = sum(view.nbytes for view in model.parameters().values())
    assert set(asked) == {("run", weights + MEMORY.moments + MEMORY.snapshot)}


def test_a_run_tells_what_it_will_take_and_it_changes_no_bit(tmp_path):
    told = []

    class Ask:
        def on_train_begin(self, info):
            told.append(info["forecast"]())

    def run(**options):
        model = loopos.Model(loopos.ModelConfig(50, 16, 2, 2, 16, dropout=0.1))
        more = {"batch_size": 2, "grad_accum": 2, "eval_data": ids[:100], "progress": False} | options
        return loopos.train(model, ids, **more).model.state_dict()

    ids = np.arange(1000) % 50
    settings = {"max_steps": 6, "eval_every": 4, "save_every": 3}
    asked = run(callbacks=[Ask()], output_dir=tmp_path / "a", **settings)
    plain = run(output_dir=tmp_path / "b", **settings)
    assert all(np.array_equal(plain[name], asked[name]) for name in plain)
    run(callbacks=[Ask()], output_dir=tmp_path / "a", resume="auto", **settings | {"max_steps": 10})
    assert [(each.updates, each.evaluations, each.checkpoints) for each in told] == [(6, 2, 2), (4, 2, 2)]
    assert all(min(each.update, each.evaluation, each.checkpoint) > 0 for each in told)


def test_what_cannot_fit_is_refused_with_what_to_lower(monkeypatch):
    monkeypatch.setattr(forecast._core, "available_bytes", lambda: 1e5)
    model = loopos.Model(loopos.ModelConfig(50, 16, 2, 2, 16))
    with pytest.raises(MemoryError, match="lower batch_size or seq_len"):
        refuse_unfitting(model, default_settings(), 16)


def test_sums_of_shards_wait_in_copies_of_the_gradients():
    model = loopos.Model(loopos.ModelConfig(50, 16, 2, 2, 16))
    numbers = sum(view.size for view in model.parameters().values())
    told = [memory_of(model, default_settings(batch_size=8, shards=n).to_dict(), 16).sums for n in (1, 2, 8)]
    assert told == [0, 4 * numbers, 3 * 4 * numbers]
    fast = Alone()
    fast.fast = True
    assert memory_of(model, default_settings(batch_size=8, shards=8).to_dict(), 16, ranks=fast).sums == 0


def several(size, **options):
    """Rank 0 of so many, without MPI."""
    ranks = Ranks.__new__(Ranks)
    ranks.rank, ranks.size, ranks._watched, ranks.overlaps = 0, size, None, False
    ranks.use(Distributed(**options))
    return ranks


def test_what_several_processes_take():
    model = loopos.Model(loopos.ModelConfig(50, 16, 2, 2, 16))
    numbers = sum(view.size for view in model.parameters().values())
    settings = default_settings(batch_size=8, shards=8).to_dict()

    def told(size, **options):
        return memory_of(model, settings, 16, ranks=several(size, **options))

    assert told(2).sums == 2 * 4 * numbers  # of four shards each
    assert told(8).sums == told(2, fast_reduce=True).exchange == 0
    piece = -(-numbers // 2)
    assert told(2).exchange == 2 * 4 * piece  # the piece of each is received from both
    assert told(2, wire="bfloat16").exchange == 2 * (2 + 4) * piece + (2 + 4 + 4) * numbers  # and read as float32
    assert told(2, shard_optimizer=True).moments == told(2).moments // 2
    assert told(2).moments == 2 * 4 * numbers


def test_a_refusal_tells_of_sums_and_exchanges(monkeypatch):
    model = loopos.Model(loopos.ModelConfig(50, 16, 2, 2, 16))
    monkeypatch.setattr(forecast._core, "available_bytes", lambda: 1)
    with pytest.raises(MemoryError, match=r"sums of shards \(\d+ MB\), exchanges of ranks"):
        refuse_unfitting(model, default_settings(batch_size=8, shards=8), 16, ranks=several(2))
