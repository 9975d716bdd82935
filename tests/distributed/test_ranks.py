"""Several processes under mpiexec are one run: the bits of one process, one voice, one writer."""

from __future__ import annotations

import os
import shutil

import pytest
from under_mpi import mpi_needed, result_of

pytestmark = [mpi_needed, pytest.mark.unsanitized("processes of their own: sanitizers are not in them")]

SCRIPT = """
import hashlib, json, sys
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
result = loopos.train(config, seen if asked.pop("object", False) else ids, **asked)
weights = b"".join(each.tobytes() for each in result.model.parameters().values())
losses = [(each["loss"], each.get("eval_loss")) for each in result.history]
tell([hashlib.sha256(weights).hexdigest(), losses, getattr(seen, "threads", None)])
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
