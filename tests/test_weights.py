"""Weights of a model out and in, and locks in a forked child. test_model.py has what load_state_dict refuses."""

from __future__ import annotations

import os
import threading

import numpy as np
import pytest

from loopos import Model, ModelConfig


def test_load_state_dict_is_all_or_nothing():
    model = Model(ModelConfig(8, 8, 1, 1, 4))
    before, wrong = model.state_dict(), {name: view + 1 for name, view in model.state_dict().items()}
    del wrong["final_norm.bias"]
    with pytest.raises(ValueError, match=r"^Model.load_state_dict: missing final_norm.bias"):
        model.load_state_dict(wrong)
    assert all((model.parameters()[name] == view).all() for name, view in before.items())
    model.load_state_dict({name: view + 1 for name, view in before.items()})
    assert all((model.parameters()[name] == view + 1).all() for name, view in before.items())


@pytest.mark.filterwarnings("ignore::DeprecationWarning")  # fork with threads is what is tested
def test_a_forked_child_can_use_a_model_that_another_thread_had_locked():
    model, held, done = Model(ModelConfig(8, 8, 1, 1, 4)), threading.Event(), threading.Event()

    def hold():
        with model.lock:
            held.set()
            done.wait()

    thread = threading.Thread(target=hold)
    thread.start()
    held.wait()
    child = os.fork()
    if child == 0:
        os._exit(0 if model.lock.acquire(timeout=5) and np.isfinite(1.0) else 1)
    done.set()
    thread.join()
    assert os.waitstatus_to_exitcode(os.waitpid(child, 0)[1]) == 0
