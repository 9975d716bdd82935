"""The thread pool: its size, its refusals, forks, exceptions, many callers at once."""

from __future__ import annotations

import ctypes
import json
import os
import select
import signal
import subprocess
import sys
import threading
import time

import numpy as np
import pytest

import loopos
from loopos import ops
from loopos.threads import threads


def in_new_process(code, **environment):
    clean = {k: v for k, v in os.environ.items() if k not in ("LOOPOS_NUM_THREADS", "OMP_NUM_THREADS", "LOOPOS_ISA")}
    return subprocess.run(
        [sys.executable, "-c", code], capture_output=True, text=True, timeout=60, env={**clean, **environment}
    )


def test_set_and_get(thread_count):
    for n in (1, 3, 8, 64):
        loopos.set_num_threads(n)
        assert loopos.get_num_threads() == n


def test_for_the_length_of_a_call(thread_count):
    thread_count(2)
    with threads(5):
        assert loopos.get_num_threads() == 5
    with pytest.raises(ZeroDivisionError), threads(5):
        print(1 / 0)
    assert loopos.get_num_threads() == 2
    with threads(None):
        assert loopos.get_num_threads() == 2


@pytest.mark.parametrize("n", [0, -1, 1025, 2**40])
def test_absurd_sizes_are_refused(n):
    before = loopos.get_num_threads()
    with pytest.raises(ValueError, match="1 to 1024"):
        loopos.set_num_threads(n)
    assert loopos.get_num_threads() == before


@pytest.mark.parametrize("n", [1.5, "2", None, True])
def test_a_wrong_type_is_refused(n):
    with pytest.raises(TypeError):
        loopos.set_num_threads(n)


@pytest.mark.parametrize("n", [2**70, -(2**70), 10**400])
def test_a_number_beyond_64_bits_is_refused(n):
    with pytest.raises(ValueError, match="64 bits"):
        loopos.set_num_threads(n)


SHOW = "import loopos; print(loopos.get_num_threads())"


def test_the_environment_sets_the_number():
    assert in_new_process(SHOW, LOOPOS_NUM_THREADS="5").stdout.strip() == "5"
    assert in_new_process(SHOW, OMP_NUM_THREADS="3").stdout.strip() == "3"
    assert in_new_process(SHOW, OMP_NUM_THREADS="3", LOOPOS_NUM_THREADS="4").stdout.strip() == "4"
    assert in_new_process(SHOW, OMP_NUM_THREADS="nonsense").returncode == 0


@pytest.mark.parametrize("value", ["0", "-2", "two", "1.5", "99999999999999999999"])
def test_a_bad_environment_is_refused_at_import(value):
    run = in_new_process(SHOW, LOOPOS_NUM_THREADS=value)
    assert run.returncode == 1
    assert "LOOPOS_NUM_THREADS" in run.stderr
    assert value in run.stderr


def test_an_unknown_isa_is_refused_at_import():
    run = in_new_process(SHOW, LOOPOS_ISA="mmx")
    assert run.returncode == 1
    assert "baseline, avx2 or avx512" in run.stderr


@pytest.mark.skipif(not hasattr(os, "sched_setaffinity"), reason="needs a processor affinity mask")
def test_the_default_respects_the_affinity_mask():
    code = "import os; os.sched_setaffinity(0, {min(os.sched_getaffinity(0))}); " + SHOW
    assert in_new_process(code).stdout.strip() == "1"


def work():
    x = np.random.default_rng(0).standard_normal((300, 200)).astype(np.float32)
    return ops.matmul(x, np.ascontiguousarray(x.T)).tobytes() + ops.softmax(x).tobytes()


@pytest.mark.skipif(not hasattr(os, "fork"), reason="needs fork")
@pytest.mark.filterwarnings("ignore:This process:DeprecationWarning")  # Python 3.12 warns of forking with threads alive
def test_a_child_forked_after_the_pool_ran_can_compute(thread_count):
    thread_count(4)
    want = work()
    reading, writing = os.pipe()
    child = os.fork()
    if child == 0:
        os.write(writing, b"same" if work() == want else b"other")
        os._exit(0)
    os.close(writing)
    deadline = time.monotonic() + 20
    while os.waitpid(child, os.WNOHANG)[0] == 0:
        if time.monotonic() > deadline:
            os.kill(child, signal.SIGKILL)
            os.waitpid(child, 0)
            pytest.fail("the child hangs")
        time.sleep(0.01)
    with os.fdopen(reading, "rb") as pipe:
        assert pipe.read() == b"same"
    assert work() == want


def test_many_python_threads_share_the_pool(thread_count):
    thread_count(3)
    want, wrong = work(), []

    def call():
        for _ in range(30):
            if work() != want:
                wrong.append(1)

    threads = [threading.Thread(target=call) for _ in range(8)]
    for thread in threads:
        thread.start()
    for i in range(20):
        loopos.set_num_threads(1 + i % 4)  # resizing while others compute
    for thread in threads:
        thread.join()
    assert not wrong


def test_the_process_ends_with_workers_asleep():
    code = "import loopos, numpy as np; loopos.set_num_threads(4); loopos.ops.softmax(np.ones((5000, 50)))"
    assert in_new_process(code).returncode == 0


COMPUTE_TWICE = """
import os, sys
import numpy as np
import loopos
loopos.set_num_threads(3)
x = np.ones((5000, 50), np.float32)
loopos.ops.softmax(x)
print(*(set(os.listdir("/proc/self/task")) - {str(os.getpid())}), flush=True)
sys.stdin.readline()
loopos.ops.softmax(x)
print("done", flush=True)
"""


@pytest.mark.skipif(not sys.platform.startswith("linux"), reason="needs ptrace of single threads")
@pytest.mark.unsanitized("a thread that stands still would hold up the sanitizer's own")
def test_a_job_does_not_wait_for_a_worker_that_has_not_come():
    """The workers stand still while the other thread does all of it."""
    attach, wait_all = 16, 0x40000000
    ptrace = ctypes.CDLL(None, use_errno=True).ptrace
    ptrace.argtypes = [ctypes.c_long, ctypes.c_long, ctypes.c_void_p, ctypes.c_void_p]
    pipes = {"stdin": subprocess.PIPE, "stdout": subprocess.PIPE, "text": True}
    held = []
    with subprocess.Popen([sys.executable, "-c", COMPUTE_TWICE], **pipes) as process:
        try:
            for worker in map(int, process.stdout.readline().split()):
                if ptrace(attach, worker, None, None) != 0:
                    pytest.skip(f"ptrace is refused: {os.strerror(ctypes.get_errno())}")
                os.waitpid(worker, wait_all)
                held.append(worker)
            process.stdin.write("go\n")
            process.stdin.flush()
            ready, _, _ = select.select([process.stdout], [], [], 30)
            assert ready, "it waits for workers that stand still"
            assert process.stdout.readline() == "done\n"
        finally:
            process.kill()
            for worker in held:
                os.waitpid(worker, wait_all)  # whoever holds a thread is told of its end


def test_importing_leaves_floating_point_state_alone():
    code = (
        "import json, numpy as np\n"
        "import loopos\n"
        "loopos.ops.softmax(np.full((9, 3000), 3e38, np.float32) * np.float32(1))\n"
        "print(json.dumps([bool(np.float32(1e-45) * np.float32(1) != 0), 5e-324 * 1 != 0]))"
    )
    assert json.loads(in_new_process(code).stdout) == [True, True]
