"""What goes wrong on one rank ends all of them, with one clear error, and the last checkpoint stays."""

from __future__ import annotations

import re
import time

import pytest
from under_mpi import mpi_needed, started, told

import loopos
from loopos.files.run_folder import newest_valid
from loopos.run.bundle import read_bundle

pytestmark = [mpi_needed, pytest.mark.unsanitized("processes of their own: sanitizers are not in them")]

SCRIPT = """
import errno, faulthandler, json, os, signal, sys, time
faulthandler.dump_traceback_later(40)  # seen where a test waits in vain
asked = json.loads(sys.argv[1])
rank = int(os.environ["PMI_RANK"])
fault, at = asked.pop("fault", None), asked.pop("on", 1)
here = rank == at
if here and fault == "early":
    sys.exit("this rank does not get so far")
if here and fault == "isa":
    os.environ["LOOPOS_ISA"] = "avx2"
import numpy as np, loopos, loopos.testing
config = loopos.ModelConfig(vocab_size=61, context_length=8, n_layer=1, n_head=2, d_model=16)
class Data:
    def __init__(self):
        self.rng = np.random.default_rng(0)
    def batch(self, step, micro):
        if step == 5 and here:
            if fault == "killed":
                os.kill(os.getpid(), signal.SIGKILL)
            if fault == "stopped":
                os.kill(os.getpid(), signal.SIGSTOP)
            if fault == "hangs":
                time.sleep(1000)
            if fault == "memory":
                raise MemoryError("no room for the batch")
            if fault == "drift":
                model.parameters()["blocks.0.attn_norm.weight"][3] += 1e-6
            if fault == "terminated":
                os.kill(os.getpid(), signal.SIGTERM)
        ids = np.random.default_rng(step).integers(0, 61, (8, 9))
        return ids[:, :-1], ids[:, 1:]
if here and fault == "disk":
    from loopos.files import durable
    write = durable.create
    def full(path, *rest, **more):
        if "step-00000004" in str(path):
            raise OSError(errno.ENOSPC, "No space left on device", str(path))
        return write(path, *rest, **more)
    durable.create = full
data = np.random.default_rng(7).integers(0, 61, 2000) if fault in ("data", "nan") else Data()
if here and fault == "data":
    data[100] += 1
    data[100] %= 61
if fault == "held out":
    asked["eval_data"] = np.arange(300) % 61
    asked["eval_data"][-1] += here
model = loopos.Model(config, seed=1)
if here and fault == "nan":
    plant = loopos.testing.planted(model, "blocks.0.attn_norm.y", (0, 0, 0), float("nan"), step=3)
    plant.__enter__()
if here and fault == "sum":
    from loopos.distributed.partial import Partial
    add, seen = Partial.add, []
    def spoil(self, shard):
        seen.append(shard)
        if seen.count(shard) == 3:
            self.buffer[7] = float("nan")
        add(self, shard)
    Partial.add = spoil
if asked.pop("overlaps", False):  # as over several machines
    from loopos.distributed import overlap, ranks, reduction
    reduction.SMALLEST, use, final_from, passes = 100, ranks.Ranks.use, overlap.Overlap.final_from, []
    def used(self, options):
        use(self, options)
        self.overlaps = True
    def final(self, first):
        passes.append(first)
        if here and fault == "killed sending" and len(passes) == 6:
            os.kill(os.getpid(), signal.SIGKILL)
        final_from(self, first)
    ranks.Ranks.use, overlap.Overlap.final_from = used, final
limits = loopos.Distributed(timeout=asked.pop("timeout", 60), shard_optimizer=asked.pop("sharded", False))
try:
    result = loopos.train(model, data, batch_size=8, max_steps=asked.pop("steps", 40), save_every=2, progress=False,
                          output_dir=asked.pop("folder"), distributed=limits, shards=4, **asked)
except BaseException as error:
    tell([type(error).__name__, str(error)])
    raise
"""
SECONDS = 60


def fails(tmp_path, ranks=3, **asked):
    """(stderr, what each rank that could told, seconds, the newest checkpoint)."""
    began, folder = time.monotonic(), tmp_path / "run"
    with started(SCRIPT, {"folder": str(folder), **asked}, ranks, tmp_path) as process:
        try:
            _, err = process.communicate(timeout=SECONDS)
        finally:
            process.kill()
    assert process.returncode != 0
    newest = newest_valid(folder) if folder.is_dir() else None
    return err, told(tmp_path), time.monotonic() - began, newest


def sentences(err):
    """What is an error of ours: the launcher adds a banner of its own."""
    return [line for line in err.splitlines() if line.startswith("loopos: ")]


def test_a_rank_that_never_comes_is_waited_for_no_longer_than_the_timeout(tmp_path):
    err, _, seconds, _ = fails(tmp_path, ranks=2, fault="early", timeout=5)
    (said,) = sentences(err)
    assert said == "loopos: rank 0 has waited 5 s for all ranks to start: one has failed before it could join"
    assert "this rank does not get so far" in err
    assert seconds < SECONDS


@pytest.mark.parametrize(("on", "sends"), [(0, False), (2, False), (1, True)])
def test_a_rank_that_is_killed_is_named(on, sends, tmp_path):
    """sends: in its backward pass, while gradients are on their way."""
    asked = {"fault": "killed sending", "overlaps": True} if sends else {"fault": "killed"}
    err, _, _, newest = fails(tmp_path, on=on, **asked)
    (said,) = sentences(err)
    assert said.startswith(f"loopos: rank {on} on ")
    assert re.search(r"last heard of in update [1-6]\) has died", said)
    assert "the last checkpoint is as it was" in said
    assert "Traceback" not in err
    assert newest.step == 4


@pytest.mark.parametrize(("fault", "says"), [("stopped", "has been silent for"), ("hangs", "has got no further for")])
def test_a_rank_that_hangs_is_named_within_the_timeout(fault, says, tmp_path):
    err, _, seconds, newest = fails(tmp_path, fault=fault, timeout=6)
    (said,) = sentences(err)
    assert said.startswith("loopos: rank 1 on ")
    assert says in said
    assert newest.step == 4
    assert seconds < SECONDS


def test_a_rank_without_memory_is_named(tmp_path):
    err, errors, _, newest = fails(tmp_path, fault="memory")
    (said,) = sentences(err)
    assert said.startswith("loopos: rank 1 on ")
    assert "MemoryError: no room for the batch" in said
    assert all("no room for the batch" in text for _, text in errors)
    assert {kind for kind, _ in errors} <= {"MemoryError", "RankError"}  # the launcher may end one before it tells
    assert newest.step == 4


def test_a_full_disk_is_named_and_the_checkpoint_before_stays(tmp_path):
    err, _, _, newest = fails(tmp_path, fault="disk", on=0)
    (said,) = sentences(err)
    assert said.startswith("loopos: rank 0 on ")
    assert "No space left on device" in said
    assert newest.step == 2


@pytest.mark.parametrize(
    ("fault", "says"),
    [
        ("isa", r"rank 1 on .* has another isa than rank 0"),
        (
            "data",
            r"rank 1 on .* has another training data \(their SHA-256\) than .*: \w{16} there, \w{16} here",
        ),
        ("held out", r"rank 1 on .* has another held-out data \(their SHA-256\)"),
    ],
)
def test_ranks_that_differ_do_not_begin(fault, says, tmp_path):
    if fault == "isa" and str(loopos._core.isa()) == "avx2":
        pytest.skip("this machine has no other instruction set to take")
    err, errors, _, newest = fails(tmp_path, fault=fault)
    assert err.count("Traceback") == 1
    assert len(errors) == 3
    assert all(kind == "DifferentRank" for kind, _ in errors)
    assert re.search(says, err)
    assert newest is None


def test_ranks_whose_weights_drift_apart_keep_no_checkpoint_of_it(tmp_path):
    """A weight of one rank is written in update 6, in which a checkpoint is due."""
    err, errors, _, newest = fails(tmp_path, fault="drift")
    assert err.count("Traceback") == 1
    assert all(kind == "DifferentRank" for kind, _ in errors)
    assert re.search(r"rank 1 on .* has another weights after update 6 \(their SHA-256\) than rank 0", err)
    assert newest.step == 4


@pytest.mark.parametrize("how", [{}, {"overlaps": True}, {"sharded": True}])
def test_a_number_that_is_not_finite_on_one_rank_refuses_the_step_on_all(how, tmp_path):
    err, errors, _, newest = fails(tmp_path, fault="nan", on=2, **how)
    assert err.count("Traceback") == 1
    assert [kind for kind, _ in errors] == ["NonFiniteError"] * 3
    assert len({text for _, text in errors[1:]}) == 1  # the first adds where the bundle is
    assert all("on rank 2 of 3" in text for _, text in errors)
    assert newest.step == 2
    bundle = read_bundle(tmp_path / "run")
    assert [len(ids) for ids, *_ in bundle.batches] == [8]  # all rows, of which a rank has its own alone
    assert bundle.outcome.birth.rank == "rank 2 of 3"
    assert bundle.outcome.birth.first_row == 4  # its shards are the third and the fourth of four
    assert bundle.settings.shards == 4


def test_a_number_that_goes_bad_in_the_sum_of_one_rank_names_it(tmp_path):
    """Its passes are sound: by the time the sum of all is, nothing but a look before it was sent can tell."""
    err, errors, _, newest = fails(tmp_path, fault="sum", on=2)
    assert err.count("Traceback") == 1
    assert [kind for kind, _ in errors] == ["NonFiniteError"] * 3
    assert all("on rank 2 of 3" in text for _, text in errors)
    assert newest.step == 2
    assert read_bundle(tmp_path / "run").outcome.birth.rank == "rank 2 of 3"


def test_sigterm_to_any_rank_saves_once(tmp_path):
    err, errors, _, newest = fails(tmp_path, ranks=2, fault="terminated", on=1)
    assert errors == [["SystemExit", "143"]] * 2
    assert newest.step == 6
    assert sentences(err) == []


AGAIN = """
import os, time
import numpy as np, loopos
class Data:
    def batch(self, step, micro):
        if step == 2 and os.environ["PMI_RANK"] == "1":
            raise MemoryError("no room for the batch")
        return np.zeros((8, 8), np.int32), np.zeros((8, 8), np.int32)
said = []
for data in (Data(), np.arange(999) % 61, np.arange(999) % 61):
    model = loopos.Model(loopos.ModelConfig(vocab_size=61, context_length=8, n_layer=1, n_head=2, d_model=16), seed=1)
    try:
        loopos.train(model, data, max_steps=3, batch_size=8, distributed="auto", progress=False)
    except Exception as error:
        said.append(f"{type(error).__name__}: {error}")
tell(said)
end = time.monotonic() + 20  # the launcher ends the other rank when one is gone
while not all(os.path.exists(f"told-00{rank}.json") for rank in (0, 1)) and time.monotonic() < end:
    time.sleep(0.01)
"""


def test_no_run_begins_after_one_that_failed(tmp_path):
    """Its exchanges were left half done: the next ones would be taken for them."""
    with started(AGAIN, {}, 2, tmp_path) as process:
        process.communicate(timeout=60)
    said = told(tmp_path)
    assert len(said) == 2
    for first, *later in said:
        assert "no room for the batch" in first
        assert len(later) == 2
        assert all(each.startswith("RankError: train: these processes cannot begin another run") for each in later)
