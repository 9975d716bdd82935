"""Gradients are sent while backward makes the next ones: what it says is final is, and no bit changes."""

from __future__ import annotations

import threading
import time

import numpy as np
import pytest
from under_mpi import mpi_needed, result_of

import loopos
from loopos.distributed import overlap
from loopos.distributed.overlap import Overlap


@pytest.fixture(autouse=True)
def _nothing_is_left(monkeypatch):
    """What a test leaves under way is not for those that follow in this process."""
    monkeypatch.setattr(overlap, "_left", [])


class Exchange:
    """Can send once the numbers from 50 on are final."""

    def __init__(self, error=None):
        self.seen, self.threads, self.error = [], set(), error

    def starts_at(self, first):
        return first <= 50

    def advance(self, first):
        self.seen.append(first)
        self.threads.add(threading.current_thread())
        if self.error:
            raise self.error


def until(true):
    end = time.monotonic() + 20
    while not true():
        assert time.monotonic() < end
        time.sleep(0.001)


def test_a_thread_carries_on_while_it_lasts_and_not_after():
    exchange = Exchange()
    with Overlap(exchange, 100) as final_from:
        final_from(80)
        assert exchange.threads == set()  # there is nothing to send
        final_from(50)
        until(lambda: 50 in exchange.seen)
        final_from(70)  # what was final stays so
        final_from(20)
        until(lambda: 20 in exchange.seen)
    count = len(exchange.seen)
    assert sorted(exchange.seen, reverse=True) == exchange.seen
    assert set(exchange.seen) == {50, 20}
    assert threading.current_thread() not in exchange.threads
    assert not any(thread.is_alive() for thread in exchange.threads)
    assert len(exchange.seen) == count


def run(exchange, error=None):
    """A pass over which it is sent; whether it came to its end."""
    with Overlap(exchange, 100) as final_from:
        final_from(0)
        until(lambda: exchange.seen)
        if error:
            raise error
        exchange.through = True


def test_what_goes_wrong_is_raised_when_the_pass_is_through():
    exchange = Exchange(RuntimeError("of the thread"))
    with pytest.raises(RuntimeError, match="of the thread"):
        run(exchange)
    assert exchange.through
    with pytest.raises(ValueError, match="of the pass"):
        run(Exchange(), ValueError("of the pass"))
    with pytest.raises(ValueError, match="of the pass"):
        run(Exchange(RuntimeError("of the thread")), ValueError("of the pass"))


def gpt(**fields):
    sizes = {"vocab_size": 61, "context_length": 64, "n_layer": 3, "n_head": 4, "d_model": 64, "dropout": 0.1}
    return loopos.Model(loopos.ModelConfig(**sizes | fields), seed=1)


def adapted(adapter):
    model = gpt()
    model.add_adapter(adapter)
    return model


def frozen():
    model = gpt()
    for name in list(model.parameters())[::3]:
        model._core.set_trainable(name, False)
    return model


def told_of(model, add=False, batch=3, time=16):
    """[(what the core said is final from here on, the numbers then)], and all of them in the end."""
    ids = np.random.default_rng(0).integers(0, 61, (batch, time + 1))
    given, core, told = (ids[:, :-1], ids[:, 1:]), model._core, []
    core.accumulate(*given, scale=1.0, step=0)  # what stands there before
    numbers = core.gradient_buffer()
    core.accumulate(
        *given, scale=0.1, step=1, add=add, final_from=lambda first: told.append((first, numbers[first:].copy()))
    )
    return told, numbers


@pytest.mark.parametrize("add", [False, True])
@pytest.mark.parametrize(
    "made",
    [
        gpt,
        lambda: gpt(tie_embeddings=False, norm="rmsnorm", activation="swiglu", position="rope"),
        lambda: gpt(parallel_residual=True),
        lambda: adapted(loopos.LoRA(rank=2)),
        lambda: adapted(loopos.LoRA(rank=2, dora=True)),
        frozen,
    ],
)
def test_what_is_said_to_be_final_does_not_change(made, add):
    told, numbers = told_of(made(), add)
    assert len(told) == 3
    places = [first for first, _ in told]
    assert places == sorted(places, reverse=True)
    assert places[0] < numbers.size
    assert all(then.tobytes() == numbers[first:].tobytes() for first, then in told)
    assert np.abs(numbers[places[0] :]).sum() > 0


def test_of_a_batch_in_groups_the_last_one_tells():
    model = gpt(d_model=256, n_layer=2)
    told, numbers = told_of(model, batch=160, time=64)
    assert len(told) == 2
    assert all(then.tobytes() == numbers[first:].tobytes() for first, then in told)


def test_a_pass_in_parts_tells_nothing():
    model = gpt(d_model=32)
    told, _ = told_of(model, batch=32, time=64)
    assert told == []


def test_an_error_in_the_function_ends_the_pass_and_breaks_nothing():
    model, ids = gpt(), np.zeros((3, 16), np.int64)

    def wrong(first):
        raise KeyError("wrong")

    with pytest.raises(KeyError, match="wrong"):
        model._core.accumulate(ids, ids, scale=1.0, final_from=wrong)
    told, numbers = told_of(model)
    again, same = told_of(gpt())
    assert numbers.tobytes() == same.tobytes()
    assert [first for first, _ in told] == [first for first, _ in again]


SCRIPT = """
import hashlib, json, sys
import numpy as np, loopos
from loopos.distributed import overlap, ranks, reduction
asked = json.loads(sys.argv[1])
kind, together = asked.pop("kind"), asked.pop("overlaps", False)
reduction.SMALLEST = 1000
early, use = [], ranks.Ranks.use
def used(self, options):
    use(self, options)
    self.overlaps = together
ranks.Ranks.use = used
left = overlap.Overlap.__exit__
def leaving(self, *error):
    import time
    end = time.monotonic() + 5  # so that something is under way, whatever the machine does
    while self._thread is not None and self._exchange.starts_at(self._first) and time.monotonic() < end:
        time.sleep(0.001)
    left(self, *error)
    early.append(not self._exchange.starts_at(self._first) and self._thread is not None)
overlap.Overlap.__exit__ = leaving
config = loopos.ModelConfig(vocab_size=61, context_length=16, n_layer=3, n_head=4, d_model=32, dropout=0.1,
                            tie_embeddings=kind != "untied")
ids = np.random.default_rng(0).integers(0, 61, 5000)
model = loopos.Model(config, seed=3)
given = {"max_steps": 4, "batch_size": 12, "grad_accum": 2, "max_grad_norm": 0.5, "learning_rate": 1e-2}
if kind == "few":
    given |= {"batch_size": 3, "grad_accum": 1}
if kind == "adapter":
    given["adapter"] = loopos.LoRA(rank=4, dropout=0.1)
if asked.pop("sharded", False):
    asked["distributed"] = loopos.Distributed(shard_optimizer=True, wire="bfloat16" if kind == "wire" else "float32")
elif kind == "fast":
    asked["distributed"] = loopos.Distributed(fast_reduce=True)
elif kind == "wire":
    asked["distributed"] = loopos.Distributed(wire="bfloat16")
result = loopos.train(model, ids, progress=False, log_every=1, **given, **asked)
weights = b"".join(each.tobytes() for each in result.model.parameters().values())
tell([hashlib.sha256(weights).hexdigest(), [each["loss"] for each in result.history], early])
"""
of_several = [mpi_needed, pytest.mark.unsanitized("processes of their own: sanitizers are not in them")]


def same_bits(one, several, computing):
    assert [each[:2] for each in several] == [one[:2]] * len(several)
    assert all(each[2] == [True] * 4 for each in several[:computing])


class TestBits:
    pytestmark = of_several

    @pytest.mark.parametrize(("kind", "ranks"), [("tied", 2), ("untied", 3), ("adapter", 4)])
    def test_are_those_of_one_process(self, kind, ranks, tmp_path):
        (one,) = result_of(SCRIPT, {"kind": kind, "shards": 8}, folder=tmp_path)
        asked = {"kind": kind, "shards": 8, "overlaps": True, "distributed": "auto"}
        same_bits(one, result_of(SCRIPT, asked, ranks=ranks, folder=tmp_path), ranks)

    def test_ranks_without_a_row_take_part(self, tmp_path):
        """Of 3 rows in 8 shards some ranks have none, and nothing of theirs is final early."""
        (one,) = result_of(SCRIPT, {"kind": "few", "shards": 8}, folder=tmp_path)
        asked = {"kind": "few", "shards": 8, "overlaps": True, "distributed": "auto"}
        told = result_of(SCRIPT, asked, ranks=4, folder=tmp_path)
        assert [each[:2] for each in told] == [one[:2]] * 4
        assert any(each[2] for each in told)
        assert any(each[2] == [] for each in told)

    @pytest.mark.parametrize("kind", ["fast", "wire"])
    def test_two_ranks_have_the_bits_of_two_that_wait_for_the_end(self, kind, tmp_path):
        """MPI's sum of two numbers is one number, and rounding goes by buckets, which are the same."""
        asked = {"kind": kind, "shards": 4}
        before = result_of(SCRIPT, asked, ranks=2, folder=tmp_path)
        same_bits(before[0], result_of(SCRIPT, asked | {"overlaps": True}, ranks=2, folder=tmp_path), 2)

    @pytest.mark.parametrize("kind", ["tied", "wire"])
    def test_ranks_that_are_sent_their_own_sums_alone(self, kind, tmp_path):
        asked = {"kind": kind, "shards": 4}
        before = result_of(SCRIPT, asked | {"distributed": "auto"}, ranks=2, folder=tmp_path)
        told = result_of(SCRIPT, asked | {"sharded": True, "overlaps": True}, ranks=2, folder=tmp_path)
        assert [each[:2] for each in told] == [before[0][:2]] * 2


ALIKE = """
import os
import numpy as np, loopos
from loopos.distributed import overlap, ranks, reduction
reduction.SMALLEST = 1000
use, final = ranks.Ranks.use, overlap.Overlap.final_from
def used(self, options):
    use(self, options)
    self.overlaps = True
ranks.Ranks.use = used
count = 0
def raises(self, first):
    global count
    final(self, first)
    count += self._thread is not None  # something is under way
    if count > int(os.environ["PMI_RANK"]):
        raise ArithmeticError("in backward")
overlap.Overlap.final_from = raises
said = []
for run in range(2):
    model = loopos.Model(loopos.ModelConfig(vocab_size=61, context_length=16, n_layer=3, n_head=4, d_model=32), seed=1)
    try:
        loopos.train(model, np.arange(999) % 61, max_steps=3, batch_size=8, distributed="auto", progress=False)
    except Exception as error:
        said.append(f"{type(error).__name__}: {error}")
tell(said)
while not all(os.path.exists(f"told-00{rank}.json") for rank in (0, 1)):
    pass
os._exit(0)  # what is under way cannot be ended
"""


@mpi_needed
@pytest.mark.unsanitized("processes of their own: sanitizers are not in them")
def test_no_run_begins_after_an_error_of_all_in_the_midst_of_backward(tmp_path):
    """All failed alike, each at another place: what was left under way would be taken for parts of the next run."""
    told = result_of(ALIKE, {}, ranks=2, folder=tmp_path)
    for first, second in told:
        assert first == "ArithmeticError: in backward"
        assert second.startswith("RankError: train: these processes cannot begin another run")
    assert len(told) == 2
