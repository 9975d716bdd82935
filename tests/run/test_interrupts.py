import os
import signal
import threading

import pytest

from loopos.run.interrupts import Interrupted, Interrupts


def test_the_first_ctrl_c_waits_and_the_second_does_not():
    before = signal.getsignal(signal.SIGINT)
    with Interrupts() as interrupts:
        interrupts.check()
        signal.raise_signal(signal.SIGINT)
        assert interrupts.pending == signal.SIGINT
        assert not interrupts.forced
        with pytest.raises(Interrupted):
            interrupts.check()
        with pytest.raises(KeyboardInterrupt, match="second"):
            signal.raise_signal(signal.SIGINT)
        assert interrupts.forced
    assert signal.getsignal(signal.SIGINT) is before


def test_the_handler_comes_back_after_an_exception():
    before = signal.getsignal(signal.SIGINT)

    def fail():
        with Interrupts(sigterm=True):
            assert signal.getsignal(signal.SIGINT) is not before
            raise ZeroDivisionError

    with pytest.raises(ZeroDivisionError):
        fail()
    assert signal.getsignal(signal.SIGINT) is before
    assert signal.getsignal(signal.SIGTERM) == signal.SIG_DFL


def test_sigterm_waits_only_when_asked():
    with Interrupts():
        assert signal.getsignal(signal.SIGTERM) == signal.SIG_DFL
    with Interrupts(sigterm=True) as interrupts:
        os.kill(os.getpid(), signal.SIGTERM)
        assert interrupts.pending == signal.SIGTERM


def test_a_handler_of_someone_else_is_kept():
    seen = []
    before = signal.signal(signal.SIGINT, lambda *_: seen.append("theirs"))
    try:
        with Interrupts() as interrupts:
            signal.raise_signal(signal.SIGINT)
            assert interrupts.pending is None
    finally:
        signal.signal(signal.SIGINT, before)
    assert seen == ["theirs"]


def test_outside_the_main_thread_nothing_is_touched():
    seen = []

    def work():
        with Interrupts(sigterm=True) as interrupts:
            seen.append((signal.getsignal(signal.SIGINT), interrupts.pending))

    before = signal.getsignal(signal.SIGINT)
    thread = threading.Thread(target=work)
    thread.start()
    thread.join()
    assert seen == [(before, None)]
