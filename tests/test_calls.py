"""One call at a time on one object, and none that would disturb a training."""

from __future__ import annotations

import threading

import pytest

from loopos.calls import refuse_in_training, serialised


class Counted:
    def __init__(self):
        self.lock, self._training, self.inside, self.most = threading.RLock(), False, 0, 0
        self.met = threading.Barrier(4)

    def call(self):
        self.met.wait()
        return self.once()

    @serialised
    def once(self):
        """Said of it."""
        self.inside += 1
        self.most = max(self.most, self.inside)
        threading.Event().wait(0.01)  # another thread would come in here
        self.inside -= 1
        return 7


def test_calls_of_several_threads_come_one_after_another():
    counted, results = Counted(), []
    threads = [threading.Thread(target=lambda: results.append(counted.call())) for _ in range(4)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert (results, counted.most) == ([7] * 4, 1)
    assert (Counted.once.__name__, Counted.once.__doc__) == ("once", "Said of it.")


def test_a_model_in_training_is_left_alone():
    counted = Counted()
    refuse_in_training(counted, "Model.freeze")
    counted._training = True
    with pytest.raises(RuntimeError, match=r"Model\.freeze: loopos.train is training this model; call it before"):
        refuse_in_training(counted, "Model.freeze")
