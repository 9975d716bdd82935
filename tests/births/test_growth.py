"""The rate or the decay is blamed for large weights only where the run's own record bears it out."""

import numpy as np
import pytest

import loopos
from loopos.births.growth import Growth, medians
from loopos.files.run_folder import load_checkpoint

CONFIG = loopos.ModelConfig(vocab_size=256, context_length=16, n_layer=2, n_head=2, d_model=16)
TEXT = "to be, or not to be, that is the question: " * 30
UP = "blocks.1.mlp.up_proj.weight"


def fail(model, folder=None, **settings):
    """The birth that ends a training of ``model``."""
    given = {"max_steps": 60, "batch_size": 4, "lr_schedule": "constant", "max_grad_norm": None, "progress": False}
    with pytest.raises(loopos.NonFiniteError) as caught:
        loopos.train(model, TEXT, output_dir=folder, **(given | settings))
    return caught.value.birth


def large(name=UP, by=1e7, rows=slice(None)):
    model = loopos.Model(CONFIG)
    with np.errstate(over="ignore"):
        model.parameters()[name][rows] *= by
    return model


class At(loopos.Callback):
    """Writes into the weights between two updates."""

    def __init__(self, step, write):
        self.step, self.write = step, write

    def on_step_end(self, info):
        if info["step"] == self.step:
            self.write(info["model"].parameters())


def meet(parameters):
    """Two embeddings of 3e38 for every token and position: they meet in the next step."""
    for name in ("tok_embed.weight", "pos_embed.weight"):
        parameters[name][:, 3] = 3e38


@pytest.mark.parametrize("rate", [0.0, 1e-3])
def test_weights_that_were_large_before_the_run_are_not_the_rates_doing(rate, tmp_path):
    model = large(by=1e30)
    model.parameters()["blocks.1.mlp.down_proj.weight"][...] *= 1e12
    birth = fail(model, tmp_path, learning_rate=rate, weight_decay=0.0)
    assert birth.cause_class in ("product overflow", "sum overflow")
    assert "learning rate" not in birth.cause
    assert loopos.counterfactuals(tmp_path).verdict != "the rate"
    assert loopos.replay(tmp_path)


@pytest.mark.parametrize("rate", [0.0, 1e-3])
def test_large_but_harmless_weights_of_before_are_not_the_cause_of_another_fault(rate, tmp_path):
    model = large(by=1e7)
    birth = fail(model, tmp_path, learning_rate=rate, weight_decay=0.0, callbacks=[At(3, meet)])
    assert (birth.step, birth.op, birth.cause_class) == (4, "embedding", "sum overflow")
    assert "token 3e+38 and position 3e+38" in birth.cause
    assert f"half of {UP} is larger than" in birth.cause
    assert "was so when the run began" in birth.cause
    assert loopos.counterfactuals(tmp_path).verdict != "the rate"
    assert loopos.replay(tmp_path)


def test_weights_that_somebody_wrote_in_the_run_are_not_the_rates_doing(tmp_path):
    def write(parameters):
        parameters[UP][...] *= 1e30
        parameters["blocks.1.mlp.down_proj.weight"][...] *= 1e12

    birth = fail(loopos.Model(CONFIG), tmp_path, learning_rate=1e-3, callbacks=[At(3, write)])
    assert birth.step == 4
    assert birth.cause_class in ("product overflow", "sum overflow")
    assert "cannot have done that: somebody wrote into the weights" in birth.cause


@pytest.mark.parametrize(
    ("optimizer", "rate"),
    [("sgd", 1e6), ("sgd", 1e10), ("sgd", 1e30), ("adamw", 1e12), ("adam", 1e12), ("adamw", 1e30)],
)
def test_the_rate_is_blamed_where_its_updates_did_it(optimizer, rate, tmp_path):
    birth = fail(CONFIG, tmp_path, optimizer=optimizer, learning_rate=rate, weight_decay=0.0)
    assert birth.cause_class == "learning rate too large"
    assert loopos.counterfactuals(tmp_path).verdict == "the rate"
    assert loopos.replay(tmp_path)


def test_so_it_is_over_a_resume(tmp_path):
    settings = {"learning_rate": 1e6, "weight_decay": 0.0, "optimizer": "sgd", "max_grad_norm": None, "batch_size": 4}
    whole = fail(CONFIG, tmp_path / "whole", save_every=1, **settings)
    assert whole.cause_class == "learning rate too large"
    assert whole.step > 2
    common = settings | {"lr_schedule": "constant", "progress": False}
    loopos.train(CONFIG, TEXT, output_dir=tmp_path / "parts", max_steps=whole.step - 1, **common)
    with pytest.raises(loopos.NonFiniteError) as caught:  # all that grew, grew before this call
        loopos.train(CONFIG, TEXT, output_dir=tmp_path / "parts", resume="auto", max_steps=60, **common)
    assert caught.value.birth == whole


@pytest.mark.parametrize("optimizer", ["adamw", "sgd", "lion", "muon"])
def test_the_decay_is_named_where_it_multiplies_the_weights(optimizer, tmp_path):
    """1 - 1e-3 * 1e4 = -9 in every step."""
    birth = fail(CONFIG, tmp_path, optimizer=optimizer, learning_rate=1e-3, weight_decay=1e4)
    assert birth.cause_class == "weight decay too large"
    assert "weight_decay" in birth.cause
    assert "weight_decay" in birth.advice
    found = loopos.counterfactuals(tmp_path)
    assert found.verdict == "the rate"
    assert loopos.replay(tmp_path)
    causes = loopos.explain(tmp_path).causes
    assert causes[0] == "weight-decay-too-large"
    assert "learning-rate-too-large" not in causes


def test_a_decay_of_the_usual_size_is_not_blamed(tmp_path):
    birth = fail(CONFIG, tmp_path, learning_rate=1e12, weight_decay=0.1)
    assert birth.cause_class == "learning rate too large"


@pytest.mark.parametrize("optimizer", ["sgd", "adam", "adamw", "lion", "muon"])
@pytest.mark.parametrize(("rate", "decay"), [(1e-3, 0.1), (0.3, 0.0), (0.3, 5.0), (1.0, 3.0)])
def test_no_run_grows_beyond_the_bound(optimizer, rate, decay, tmp_path):
    model = loopos.Model(CONFIG)
    start = medians(model.parameters())
    loopos.train(
        model, TEXT, optimizer=optimizer, learning_rate=rate, weight_decay=decay, max_steps=8, batch_size=2,
        max_grad_norm=None, lr_schedule="constant", output_dir=tmp_path, progress=False,
    )  # fmt: skip
    growth = Growth.of({}, load_checkpoint(tmp_path).state["growth"])
    assert (growth.start, growth.updates, growth.rate) == (start, 8, rate)
    for name, median in medians(model.parameters()).items():
        assert median <= growth.factor * start[name] + growth.amplified


def test_the_state_keeps_every_bit():
    model = loopos.Model(CONFIG)
    growth = Growth.of(model.parameters())
    assert growth.start == medians(model.parameters())
    assert UP in growth.start
    assert not any(name.endswith((".bias", "norm.weight")) for name in growth.start)
    growth.count("adamw", 1 / 3, 30.0, 5.0)
    growth.count("adamw", 1e300, 1e300, 5.0)
    again = Growth.of({}, growth.state())
    assert vars(again) == vars(growth)
    assert Growth.of(model.parameters(), {"start": 3}).start == growth.start  # of a version that kept none


def test_the_bound():
    growth = Growth({"w": 0.5})
    assert growth.explosion({"w": np.full((2, 2), 10.0)}) is None
    huge = {"w": np.full((2, 2), 5e4), "b": np.full(2, 1e9)}
    assert growth.explosion(huge).kind is None
    growth.count("sgd", 1e5, 0.0, 0.5)
    assert growth.explosion(huge).kind == "learning rate too large"
    assert growth.explosion({"w": np.full((2, 2), 5.1e4)}).kind is None  # beyond what 0.5 * 1e5 can do
    decays = Growth({"w": 0.5})
    for _ in range(6):
        decays.count("adamw", 1e-3, 1e4, 1.0)  # 9^6 = 531441
    assert decays.explosion(huge).kind == "weight decay too large"
    same = Growth({"w": 4e4})
    same.count("sgd", 0.5, 0.0, 1e9)
    assert same.explosion(huge).kind is None
    assert "was so when the run began" in same.explosion(huge).words


@pytest.mark.parametrize("rate", [1e-3, 0.5])
@pytest.mark.parametrize("by", [1e8, 1e10, 1e16])
def test_a_gradient_that_large_weights_made_is_not_the_rates_doing(by, rate, tmp_path):
    """A head that was large before the run: the first gradients of all below it are huge, and sgd follows them."""
    config = loopos.ModelConfig(256, 16, 2, 2, 16, tie_embeddings=False)
    model = loopos.Model(config)
    model.parameters()["lm_head.weight"][...] *= by
    birth = fail(model, tmp_path, optimizer="sgd", learning_rate=rate, weight_decay=0.0)
    assert birth.cause_class in ("product overflow", "sum overflow"), birth
    assert "by a gradient whose norm was" in birth.cause
    assert "learning-rate-too-large" not in loopos.explain(tmp_path).causes
    assert loopos.replay(tmp_path)


def test_a_gradient_out_of_line_is_told_from_those_of_a_run_that_diverges():
    huge = {"w": np.full((2, 2), 5e4)}
    sudden, diverging = Growth({"w": 0.5}), Growth({"w": 0.5})
    for norm in (1.0, 2.0, 1e12):
        sudden.count("sgd", 0.1, 0.0, norm)
    for norm in (1.0, 300.0, 2e5, 1e8):
        diverging.count("sgd", 0.1, 0.0, norm)
    assert sudden.explosion(huge).kind is None
    assert "a gradient whose norm was 1e+12, after 2 at most" in sudden.explosion(huge).words
    assert diverging.explosion(huge).kind == "learning rate too large"
    large_rate = Growth({"w": 0.5})
    for norm in (3.0, 1e9):  # the second is what the first step has made of the weights
        large_rate.count("sgd", 1e6, 0.0, norm)
    assert large_rate.explosion(huge).kind == "learning rate too large"


@pytest.mark.filterwarnings("ignore:train. an update at the peak rate multiplies weights:UserWarning")
@pytest.mark.parametrize("optimizer", ["sgd", "adamw", "lion", "muon"])
@pytest.mark.parametrize("decay", [1e30, 1e38])
def test_rounding_is_no_hand_that_wrote_into_the_weights(optimizer, decay, tmp_path):
    """One update multiplies by -1e27 or -1e35: the bound is met to the last digits."""
    birth = fail(CONFIG, tmp_path, optimizer=optimizer, learning_rate=1e-3, weight_decay=decay)
    assert birth.cause_class == "weight decay too large", birth


@pytest.mark.filterwarnings("ignore:train. an update at the peak rate multiplies weights:UserWarning")
def test_the_rate_of_before_is_not_blamed_for_a_decay_of_now(tmp_path):
    common = {"max_grad_norm": None, "lr_schedule": "constant", "batch_size": 4, "progress": False}
    common["output_dir"] = tmp_path
    loopos.train(CONFIG, TEXT, max_steps=3, learning_rate=2.0, weight_decay=0.0, **common)
    with pytest.warns(UserWarning, match="weight_decay is"), pytest.raises(loopos.NonFiniteError) as caught:
        loopos.train(CONFIG, TEXT, resume="auto", max_steps=60, learning_rate=1e-3, weight_decay=1e4, **common)
    assert caught.value.birth.cause_class == "weight decay too large"


def test_half_of_the_weights_near_the_end_of_the_range():
    assert medians({"w": np.full((2, 2), 1.7e308)})["w"] == 1.7e308


@pytest.mark.filterwarnings("ignore:.*left the range:RuntimeWarning")
@pytest.mark.parametrize("rate", [1e6, 1e7, 1e8, 1e9, 1e10, 1e12])
@pytest.mark.parametrize("optimizer", ["sgd", "adamw", "lion", "muon"])
def test_a_run_at_an_absurd_rate_is_never_called_a_planted_fault(optimizer, rate, tmp_path):
    """At 1e8 the share of a norm's gradient along its row overflows, and times 1 / deviation would be small again."""
    settings = {"optimizer": optimizer, "learning_rate": rate}
    birth = fail(loopos.ModelConfig(256, 16, 2, 2, 16), tmp_path, weight_decay=0.0, **settings)
    assert birth.cause_class == "learning rate too large", birth
    causes = loopos.explain(tmp_path).causes
    assert causes[0] == "learning-rate-too-large"
    assert "weight-decay-too-large" not in causes
