"""Training over hosts with addresses of their own, made of network namespaces: the bits of one process, over a slow
link too; a link that is cut ends all of them."""

from __future__ import annotations

import json
import os
import subprocess
import sys
import time
from pathlib import Path

import pytest
from under_mpi import NAMED, TELL, mpi_needed, result_of, root_path, told

from loopos.bench import namespaces
from loopos.files.run_folder import load_checkpoint

pytestmark = [mpi_needed, pytest.mark.unsanitized("processes of their own: sanitizers are not in them")]

SCRIPT = """
import hashlib, json, socket, sys
import numpy as np, loopos
config = loopos.ModelConfig(vocab_size=61, context_length=16, n_layer=2, n_head=4, d_model=64, dropout=0.1)
ids = np.random.default_rng(0).integers(0, 61, 5000)
asked = {"max_steps": 4, "batch_size": 8, "max_grad_norm": 0.5, "learning_rate": 1e-2, "progress": False, "threads": 1}
result = loopos.train(config, ids, **asked, **json.loads(sys.argv[1]))
weights = b"".join(each.tobytes() for each in result.model.parameters().values())
tell([hashlib.sha256(weights).hexdigest(), [each["loss"] for each in result.history]])
"""


@pytest.fixture
def hosts():
    if reason := namespaces.why_not():
        pytest.skip(f"no network namespaces here: {reason}")
    with namespaces.hosts(2) as made:
        yield made


def over(hosts, folder, asked, timeout=60):
    """What each rank of the script told, a rank on each host."""
    (folder / "program.py").write_text(TELL + SCRIPT)
    environment = {name: value for name, value in os.environ.items() if name not in NAMED}
    done = subprocess.run(
        [*hosts.mpiexec(), sys.executable, str(folder / "program.py"), json.dumps(asked)],
        env=environment | {"PYTHONPATH": root_path()} | hosts.environment(),
        cwd=folder,
        capture_output=True,
        text=True,
        timeout=timeout,
    )
    assert done.returncode == 0, done.stderr
    return told(folder)


def test_two_hosts_over_a_slow_link_have_the_bits_of_one_process(hosts, tmp_path):
    one = result_of(SCRIPT, {"shards": 4}, folder=tmp_path / "one")[0]
    hosts.limit(gigabits=0.1)
    before = [hosts.sent(0), hosts.sent(1)]
    both = over(hosts, tmp_path, {"distributed": "auto", "shards": 4})
    assert both == [one, one]
    config_bytes = 4 * 100_000  # of float32 gradients, at least
    for host in (0, 1):  # half of them out and half of the sums back, in each of four steps
        assert hosts.sent(host) - before[host] > 4 * config_bytes


CUT = """
import os, sys
import numpy as np, loopos
config = loopos.ModelConfig(vocab_size=61, context_length=16, n_layer=1, n_head=2, d_model=32)
ids = np.random.default_rng(0).integers(0, 61, 5000)
with open(f"pid-{os.environ['PMI_RANK']}", "w") as file:
    file.write(str(os.getpid()))
asked = {"max_steps": 10**6, "batch_size": 8, "threads": 1, "progress": False, "output_dir": "run", "save_every": 5}
loopos.train(config, ids, distributed=loopos.Distributed(timeout=3), **asked)
"""


def until(true, seconds=30.0):
    end = time.monotonic() + seconds
    while not true():
        assert time.monotonic() < end
        time.sleep(0.05)


def test_a_link_that_is_cut_ends_all_ranks_and_the_checkpoint_stays(hosts, tmp_path):
    """Not mpiexec itself: its helper on the host that was cut off cannot tell it that it is done."""
    (tmp_path / "program.py").write_text(CUT)
    environment = {name: value for name, value in os.environ.items() if name not in NAMED}
    with (
        (tmp_path / "said").open("w") as said,
        subprocess.Popen(
            [*hosts.mpiexec(), sys.executable, str(tmp_path / "program.py")],
            env=environment | {"PYTHONPATH": root_path()} | hosts.environment(),
            cwd=tmp_path,
            stdout=said,
            stderr=said,
        ) as launcher,
    ):
        try:
            until(lambda: any((tmp_path / "run").glob("step-*")))
            hosts.cut(1)
            pids = [(tmp_path / f"pid-{rank}").read_text() for rank in (0, 1)]
            until(lambda: not any(Path("/proc", pid).exists() for pid in pids))
        finally:
            launcher.kill()
    assert "rank 1 on " in (tmp_path / "said").read_text()
    assert "has been silent for 3 s" in (tmp_path / "said").read_text()
    load_checkpoint(sorted((tmp_path / "run").glob("step-*"))[-1])  # its checksums are right
