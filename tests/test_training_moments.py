"""A run whose optimizer keeps its moments in fewer bits: it learns, stops and goes on, and says what it keeps."""

import numpy as np
import pytest

import loopos
from loopos.run.forecast import memory_of
from loopos.threads import threads as using_threads
from loopos.training import default_settings

CONFIG = loopos.ModelConfig(vocab_size=64, context_length=16, n_layer=2, n_head=2, d_model=16)
IDS = np.arange(4000) * np.arange(4000) % 61
SMALL = ("bfloat16", "8bit")


def train(model=CONFIG, **kwargs):
    settings = {"max_steps": 12, "batch_size": 4, "learning_rate": 3e-3, "progress": False}
    return loopos.train(model, IDS, **settings | kwargs)


def bits(model):
    return b"".join(view.tobytes() for view in model.parameters().values())


@pytest.mark.parametrize("optimizer", ["adamw", "adam", "lion"])
@pytest.mark.parametrize("moments", SMALL)
def test_it_learns_about_as_fast(moments, optimizer):
    rate = 3e-3 if optimizer != "lion" else 5e-4
    settings = {"optimizer": optimizer, "max_steps": 100, "learning_rate": rate, "log_every": 1}
    losses = {
        kept: np.mean([entry["loss"] for entry in train(moments=kept, **settings).history[-10:]])
        for kept in ("float32", moments)
    }
    assert losses["float32"] < 3.9
    assert losses[moments] == pytest.approx(losses["float32"], abs=0.05)
    assert losses[moments] != losses["float32"]


@pytest.mark.parametrize("policy", ["halt", "rewind"])
@pytest.mark.parametrize("moments", SMALL)
def test_a_resumed_run_has_the_bits_of_one_that_was_not_stopped(moments, policy, tmp_path):
    settings = {"moments": moments, "on_nonfinite": policy, "save_every": 5, "output_dir": tmp_path / "run"}
    whole = train(moments=moments, on_nonfinite=policy)

    class Stop:
        def on_step_end(self, info):
            return info["step"] == 7

    train(**settings, callbacks=[Stop()])
    with using_threads(1):
        assert bits(train(**settings, resume="auto").model) == bits(whole.model)
    with pytest.raises(ValueError, match=f"moments: 'float32' here, '{moments}' in the checkpoint"):
        train(**settings | {"moments": "float32"}, resume="auto")


def test_a_checkpoint_of_before_there_was_a_choice_is_of_float32(tmp_path, monkeypatch):
    from loopos.run.settings import TrainSettings

    told = TrainSettings.to_dict
    with monkeypatch.context() as patched:
        patched.setattr(
            TrainSettings, "to_dict", lambda self: {name: v for name, v in told(self).items() if name != "moments"}
        )
        train(max_steps=5, output_dir=tmp_path / "run")
    assert train(output_dir=tmp_path / "run", resume="auto").step == 12
    with pytest.raises(ValueError, match="moments: '8bit' here, 'float32' in the checkpoint"):
        train(moments="8bit", output_dir=tmp_path / "run", resume="auto")


@pytest.mark.parametrize("moments", SMALL)
def test_a_refused_update_can_be_done_again(moments, tmp_path):
    model = loopos.Model(CONFIG, seed=1)

    class Poison:
        def on_step_end(self, info):
            if info["step"] == 4:
                next(iter(model.parameters().values()))[3, 3] = np.nan

    with pytest.raises(loopos.NonFiniteError) as caught:
        train(model, moments=moments, callbacks=[Poison()], output_dir=tmp_path / "run")
    found = loopos.replay(caught.value.bundle)
    assert found.reproduced
    assert found.birth == caught.value.birth


@pytest.mark.parametrize(("moments", "share"), [("float32", 1), ("bfloat16", 1 / 2), ("8bit", 1 / 4 + 1 / 128)])
def test_the_forecast_counts_what_they_take(moments, share):
    model = loopos.Model(CONFIG)
    settings = default_settings(moments=moments).to_dict()
    numbers = sum(view.size for view in model.parameters().values())
    assert memory_of(model, settings, 16).moments == int(2 * 4 * share * numbers)


def test_what_goes_with_nothing_is_said():
    with pytest.raises(ValueError, match="'muon' takes whole matrices"):
        train(moments="8bit", optimizer="muon")
    with pytest.warns(UserWarning, match="moments='bfloat16' does nothing with optimizer='sgd'"):
        train(moments="bfloat16", optimizer="sgd", max_steps=1)
    with pytest.raises(ValueError, match="moments in fewer bits are of float32 weights"):
        train(loopos.Model(CONFIG, dtype="float64"), moments="8bit")
