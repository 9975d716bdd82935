"""Several processes under mpiexec are one run: the bits of one process, one voice, one writer."""

from __future__ import annotations

import os
import shutil
from types import SimpleNamespace

import numpy as np
import pytest
from under_mpi import mpi_needed, result_of

from loopos.distributed import ranks as several
from loopos.distributed import reduction

pytestmark = [mpi_needed, pytest.mark.unsanitized("processes of their own: sanitizers are not in them")]

SCRIPT = """
import hashlib, json, sys
from pathlib import Path
import numpy as np, loopos
config = loopos.ModelConfig(vocab_size=61, context_length=16, n_layer=2, n_head=4, d_model=32, dropout=0.1)
ids = np.random.default_rng(0).integers(0, 61, 5000)
asked = {"max_steps": 5, "batch_size": 12, "grad_accum": 2, "max_grad_norm": 0.5, "learning_rate": 1e-2}
asked |= {"eval_data": ids[:700], "eval_every": 2, "progress": False} | json.loads(sys.argv[1])
class Seen:
    def batch(self, step, micro):
        self.threads = loopos.get_num_threads()
        return ids[:64].reshape(8, 8), ids[1:65].reshape(8, 8)
seen = Seen()
data = seen if asked.pop("object", False) else Path(asked.pop("file")) if "file" in asked else ids
if asked.pop("fast", False):
    asked["distributed"] = loopos.Distributed(fast_reduce=True)
result = loopos.train(config, data, **asked)
weights = b"".join(each.tobytes() for each in result.model.parameters().values())
losses = [(each["loss"], each.get("eval_loss")) for each in result.history]
tell([hashlib.sha256(weights).hexdigest(), losses, getattr(seen, "threads", None),
      all(bool(np.isfinite(each).all()) for each in result.model.parameters().values())])
"""


@pytest.fixture(scope="module")
def one(tmp_path_factory):
    return result_of(SCRIPT, {"shards": 8}, folder=tmp_path_factory.mktemp("one"))[0]


@pytest.mark.parametrize("ranks", [1, 2, 3, 4, 8])
def test_any_number_of_ranks_has_the_bits_of_one_process(ranks, one, tmp_path):
    told = result_of(SCRIPT, {"distributed": "auto"}, ranks=ranks, folder=tmp_path)
    assert len(told) == ranks
    assert [each[:2] for each in told] == [one[:2]] * ranks


def test_shards_are_what_the_bits_depend_on(one, tmp_path):
    three = result_of(SCRIPT, {"shards": 3}, folder=tmp_path)[0]
    assert three[0] != one[0]
    assert [each[0] for each in result_of(SCRIPT, {"distributed": "auto", "shards": 3}, ranks=2, folder=tmp_path)] == [
        three[0]
    ] * 2


def test_ranks_of_one_machine_share_its_cores(tmp_path):
    cores = len(os.sched_getaffinity(0))
    told = result_of(SCRIPT, {"distributed": "auto", "max_steps": 1, "object": True}, ranks=2, folder=tmp_path)
    assert [each[2] for each in told] == [max(1, -(-cores // 2)), max(1, cores // 2)]


ELASTIC = """
import hashlib, json, sys
import numpy as np, loopos
config = loopos.ModelConfig(vocab_size=61, context_length=16, n_layer=2, n_head=4, d_model=32, dropout=0.1)
ids = np.random.default_rng(0).integers(0, 61, 3000)
asked = json.loads(sys.argv[1])
def once(folder, **more):
    result = loopos.train(config, ids, max_steps=6, batch_size=8, learning_rate=1e-2, optimizer="adamw", seed=5,
                          on_nonfinite="rewind", output_dir=folder, progress=False, distributed="auto", **more)
    weights = b"".join(each.tobytes() for each in result.model.parameters().values())
    return hashlib.sha256(weights).hexdigest()
if "stop" in asked:
    class Stop:
        def on_step_end(self, info):
            return info["step"] == asked["stop"]
    tell([once("run", callbacks=[Stop()])])
else:
    tell([once("run", resume="auto"), once("whole")])
"""


def test_a_checkpoint_of_four_ranks_goes_on_with_one_two_or_eight(tmp_path):
    result_of(ELASTIC, {"stop": 3}, ranks=4, folder=tmp_path)
    for ranks in (1, 2, 8):
        folder = tmp_path / str(ranks)
        shutil.copytree(tmp_path / "run", folder / "run")
        told = result_of(ELASTIC, {}, ranks=ranks, folder=folder)
        assert len({text for each in told for text in each}) == 1, ranks


def test_one_process_goes_on_from_several_and_the_other_way(tmp_path):
    result_of(ELASTIC, {"stop": 3}, ranks=2, folder=tmp_path)
    alone = result_of(ELASTIC, {}, folder=tmp_path)
    assert alone[0][0] == alone[0][1]


KINDS = """
import hashlib, json, sys
import numpy as np, loopos
from loopos.distributed.reduction import Exact
asked = json.loads(sys.argv[1])
kind = asked.pop("kind")
config = loopos.ModelConfig(vocab_size=256, context_length=16, n_layer=2, n_head=4, d_model=32, dropout=0.1)
more, model = {}, config
if kind == "adapter":
    data, more = np.random.default_rng(0).integers(0, 256, 3000), {"adapter": loopos.LoRA(rank=2)}
    model = loopos.Model(config, seed=3)
elif kind == "dpo":
    data = [{"prompt": f"{i} and", "chosen": f"{i * i}", "rejected": f"{i - 7}"} for i in range(40)]
    more, model = {"task": "dpo", "adapter": loopos.LoRA(rank=2), "tokenizer": "bytes"}, loopos.Model(config, seed=3)
elif kind == "pictures":
    from loopos.vision import VisionConfig
    shape = {"image_size": 8, "channels": 1, "patch_size": 4, "d_model": 16, "n_layer": 1, "n_head": 2}
    model = VisionConfig(**shape, num_classes=3, dropout=0.1)
    rng = np.random.default_rng(0)
    data = rng.integers(0, 255, (60, 8, 8, 1)).astype(np.uint8), rng.integers(0, 3, 60)
elif kind == "covariance":
    from loopos.covariance import ULA, CovarianceConfig, Simulation
    model = CovarianceConfig(elements=5, d_model=16, n_layer=1, n_head=2)
    data = Simulation(ULA(5), sources=2, snr=5.0, snapshots=6, seed=4)
    more = {"eval_data": data, "eval_every": 1, "log_every": 1}
sizes = []
init = Exact.__init__
def spy(self, comm, kind, wait, buffer, *rest, **named):
    sizes.append(buffer.size)
    init(self, comm, kind, wait, buffer, *rest, **named)
Exact.__init__ = spy
asked |= {"max_steps": 3, "batch_size": 6, "learning_rate": 1e-2, "progress": False, "shards": 6}
result = loopos.train(model, data, **more, **asked)
weights = b"".join(each.tobytes() for each in result.model.parameters().values())
trained = sum(each.size for each in result.model.parameters(trainable=True).values())
last = {name: value for name, value in result.history[-1].items() if not name.endswith(("_per_second", "seconds"))}
tell([hashlib.sha256(weights).hexdigest(), last, [size < 2 * trained for size in sizes]])
"""


@pytest.mark.parametrize("kind", ["adapter", "dpo", "pictures", "covariance"])
def test_other_trainings_have_the_same_bits_too(kind, tmp_path):
    (one,) = result_of(KINDS, {"kind": kind}, folder=tmp_path)
    two = result_of(KINDS, {"kind": kind, "distributed": "auto"}, ranks=2, folder=tmp_path)
    assert [each[0] for each in two] == [one[0]] * 2
    assert two[0][1] == one[1]
    assert two[0][2] == [True]  # what is sent are the gradients of what is trained


def test_a_token_file_is_read_by_parts(one, tmp_path):
    """The file is memory-mapped; a rank takes its own rows of it."""
    np.save(tmp_path / "tokens.npy", np.random.default_rng(0).integers(0, 61, 5000).astype(np.uint16))
    asked = {"distributed": "auto", "file": str(tmp_path / "tokens.npy")}
    assert [each[:2] for each in result_of(SCRIPT, asked, ranks=2, folder=tmp_path)] == [one[:2]] * 2


def test_what_mpi_adds_as_it_likes_is_near(one, tmp_path):
    told = result_of(SCRIPT, {"distributed": "auto", "fast": True}, ranks=3, folder=tmp_path)
    assert [each[:2] for each in told] == [told[0][:2]] * 3  # the same in all
    assert told[0][0] != one[0]
    assert told[0][3]
    (first, _), *losses = told[0][1]
    assert first == one[1][0][0]  # before an update nothing was added in another order
    np.testing.assert_allclose(np.array(losses, float), np.array(one[1][1:], float), rtol=1e-7)


@pytest.mark.parametrize(("overlaps", "wire"), [(False, "float32"), (True, "float32"), (False, "bfloat16")])
def test_small_buckets_are_for_what_goes_on_the_way(overlaps, wire, monkeypatch):
    given = []
    for name in ("Exact", "Rounded"):
        monkeypatch.setattr(several, name, lambda *how, owned: given.append(how[-1]))
    ranks = several.Ranks.__new__(several.Ranks)
    ranks._mpi, ranks._lanes = SimpleNamespace(FLOAT=None), None
    ranks.fast, ranks._wire, ranks.overlaps = False, wire, overlaps
    ranks._exchange(np.zeros(8, np.float32), 2, None)
    assert given == [None if overlaps else reduction.BUCKET]


@pytest.mark.parametrize("how", ["carry", "wait"])
def test_who_waits_leaves_the_core_to_others_after_many_looks(how, monkeypatch):
    looks, pauses = [], []

    class Request:
        def Test(self):
            looks.append(len(pauses))
            return len(pauses) == 3

    monkeypatch.setattr(several.time, "sleep", pauses.append)
    watched = SimpleNamespace(check=lambda: None, tick=0, waits=False)
    ranks = object.__new__(several.Ranks)
    ranks._watched = watched
    getattr(ranks, how)([Request()])
    assert looks.count(0) >= several.SPINS
    assert len(pauses) == 3
    assert max(pauses) <= several.LONGEST
    if how == "carry":
        assert looks.count(1) == looks.count(2) == several.SPINS
        assert max(pauses) <= 1e-5


LEAVING = """
import json, sys, time
from pathlib import Path
import numpy as np
from loopos.distributed.opening import open_ranks
ranks, how, done = open_ranks("auto"), json.loads(sys.argv[1])["how"], Path("done")
arrays = {str(at): np.full(3000, ranks.rank, np.float32) for at in range(400)}
if ranks.first:
    time.sleep(0.3)  # the other has sent all that there is room for
if how == "spread":
    ranks.spread([(1, array) for array in arrays.values()])
else:
    arrays = ranks.collect(arrays)
if ranks.first:
    done.write_text("all have come")
until = time.monotonic() + 20
while not done.exists() and time.monotonic() < until:  # and looks at MPI no more
    time.sleep(0.01)
tell([done.exists(), sum(float(each.mean()) for each in arrays.values())])
"""


@pytest.mark.parametrize("how", ["spread", "collect"])
def test_nobody_waits_for_what_a_rank_that_has_gone_on_seems_to_have_sent(how, tmp_path):
    first, second = result_of(LEAVING, {"how": how}, ranks=2, folder=tmp_path)
    assert first == [True, 400.0]
    assert second[0]
