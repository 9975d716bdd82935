"""Training over hosts with addresses of their own, made of network namespaces: the bits of one process, over a slow
link too."""

from __future__ import annotations

import json
import os
import subprocess
import sys

import pytest
from under_mpi import NAMED, TELL, mpi_needed, result_of, root_path, told

from loopos.bench import namespaces

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
