"""Ctrl-C and SIGTERM in a running train."""

import os
import signal
import subprocess
import sys
import time

import numpy as np
import pytest

import loopos

CONFIG = loopos.ModelConfig(vocab_size=32, context_length=8, n_layer=1, n_head=2, d_model=8)
IDS = np.arange(300) % 32


def train(model=CONFIG, **kwargs):
    return loopos.train(model, IDS, **({"max_steps": 9, "batch_size": 2, "progress": False} | kwargs))


def bits(model):
    return b"".join(view.tobytes() for view in model.parameters().values())


class Press:
    """Ctrl-C at the end of a step."""

    def __init__(self, step, times=1):
        self.step, self.times = step, times

    def on_step_end(self, info):
        if info["step"] == self.step:
            for _ in range(self.times):
                signal.raise_signal(signal.SIGINT)


def test_ctrl_c_leaves_whole_updates_and_a_checkpoint(tmp_path, stop_after):
    model = loopos.Model(CONFIG, seed=1337)
    handler = signal.getsignal(signal.SIGINT)
    with pytest.raises(KeyboardInterrupt, match=r"after update 4 of 9.*resume='auto'"):
        train(model, callbacks=[Press(4)], output_dir=tmp_path / "run")
    assert signal.getsignal(signal.SIGINT) is handler
    assert bits(model) == bits(train(callbacks=[stop_after(4)]).model)
    assert [p.name for p in (tmp_path / "run").glob("step-*")] == ["step-00000004"]
    assert bits(train(output_dir=tmp_path / "run", resume="auto").model) == bits(train().model)


def test_ctrl_c_between_micro_batches_abandons_the_update(stop_after):
    class Press2:
        def __len__(self):
            return 9

        def batch(self, step, micro):
            if (step, micro) == (3, 1):
                signal.raise_signal(signal.SIGINT)
            return stream.batch(step, micro)

    from loopos.data.batches import TokenStream

    stream = TokenStream(IDS, seq_len=8, batch_size=2, grad_accum=2, vocab_size=32)
    model = loopos.Model(CONFIG)
    with pytest.raises(KeyboardInterrupt, match=r"after update 3 of 9.*no output_dir"):
        loopos.train(model, Press2(), max_steps=9, grad_accum=2, progress=False)
    other = loopos.Model(CONFIG)
    train(other, grad_accum=2, callbacks=[stop_after(3)])
    assert bits(model) == bits(other)


def test_a_second_ctrl_c_stops_at_once_and_train_can_be_called_again(tmp_path):
    handler = signal.getsignal(signal.SIGINT)
    with pytest.raises(KeyboardInterrupt, match="second"):
        train(callbacks=[Press(4, times=2)], output_dir=tmp_path / "run")
    assert signal.getsignal(signal.SIGINT) is handler
    assert list((tmp_path / "run").glob("step-*")) == []
    assert train(output_dir=tmp_path / "run").step == 9


def test_the_end_is_called_with_the_reason():
    reasons = []

    class End:
        def on_train_end(self, info):
            reasons.append(info["stopped"])

    with pytest.raises(KeyboardInterrupt):
        train(callbacks=[Press(2), End()])
    assert reasons == ["SIGINT"]


@pytest.mark.parametrize(("number", "code"), [(signal.SIGINT, -signal.SIGINT), (signal.SIGTERM, 143)])
def test_a_signal_from_outside(tmp_path, number, code):
    program = (
        "import sys, numpy as np, loopos\n"
        "class Tell:\n"
        "    def on_step_end(self, info):\n"
        "        if info['step'] == 3: print('running', flush=True)\n"
        "c = loopos.ModelConfig(32, 8, 1, 2, 8)\n"
        "loopos.train(c, np.arange(300) % 32, max_steps=10**7, batch_size=2, progress=False, output_dir=sys.argv[1],"
        " callbacks=[Tell()])\n"
    )
    process = subprocess.Popen(
        [sys.executable, "-c", program, tmp_path / "run"],
        stdout=subprocess.PIPE,
        stderr=subprocess.PIPE,
        text=True,
        cwd=os.path.dirname(os.path.dirname(loopos.__file__)),
    )
    with process:
        try:
            assert process.stdout.readline() == "running\n"
            began = time.monotonic()
            process.send_signal(number)
            _, said = process.communicate(timeout=30)
            assert time.monotonic() - began < 10
        finally:
            process.kill()  # if it did not end by itself
    assert process.returncode == code, said
    assert len(list((tmp_path / "run").glob("step-*"))) == 1
    assert ("resume='auto'" in said) == (number == signal.SIGINT)
