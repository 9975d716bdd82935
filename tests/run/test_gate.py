import numpy as np
import pytest

from loopos import Model, ModelConfig
from loopos.run.gate import clip_factor, find_birth, layer_of, refused_update

CONFIG = ModelConfig(vocab_size=11, context_length=8, n_layer=2, n_head=2, d_model=8)


class Core:
    """A core whose trace finds what it is told to, with the gradients given."""

    def __init__(self, found=(), gradients=None):
        self._found, self._gradients, self.traced = list(found), gradients or {}, []

    def trace(self, ids, targets, **keywords):
        self.traced.append(keywords["micro"])
        return self._found.pop(0) if self._found else None

    def gradients(self):
        return self._gradients

    def parameters(self):
        return {}

    def ledger(self):
        return [{"phase": "forward", "op": "gelu", "tensor": "blocks.0.mlp.y", "flags": ("overflow",)}]


CALLS = [(None, None, {"micro": micro}) for micro in range(3)]


@pytest.mark.parametrize(
    ("norm", "most", "factor"),
    [(2.0, 1.0, 0.5), (1.0, 1.0, 1.0), (0.5, 1.0, 1.0), (9.0, None, 1.0), (0.0, 1.0, 1.0), (1e300, 1.0, 1e-300)],
)
def test_clip_factor(norm, most, factor):
    assert clip_factor(norm, most) == factor


def test_a_flag_without_a_bad_number_is_no_birth_and_is_told():
    core = Core()
    with pytest.warns(
        RuntimeWarning, match="^a number left the range: .* overflow in computing blocks.0.mlp.y .op gelu"
    ):
        assert find_birth(core, CALLS, loss=2.0, norm=1.0, step=5, raised={}) is None
    assert core.traced == [0, 1, 2]


def test_the_first_micro_batch_with_a_birth_is_reported():
    found = {"phase": "forward", "layer": 1, "op": "linear", "tensor": "fc", "index": (0, 2), "value": np.inf}
    core = Core([None, found])
    birth = find_birth(core, CALLS, loss=np.nan, norm=np.nan, step=5, raised={})
    assert (birth.step, birth.phase, birth.layer, birth.op, birth.tensor) == (5, "forward", 1, "linear", "fc")
    assert (birth.index, birth.value) == ((0, 2), np.inf)
    assert birth.cause
    assert birth.micro_batch == 1
    assert core.traced == [0, 1]


def test_micro_batches_that_are_finite_one_by_one_and_not_in_sum():
    gradients = {"wte.weight": np.ones(3), "h.4.fc.weight": np.array([[0.0, 1.0], [np.inf, np.nan]])}
    birth = find_birth(Core(gradients=gradients), CALLS, loss=1.0, norm=np.inf, step=9, raised={})
    assert (birth.step, birth.phase, birth.layer, birth.op) == (9, "backward", 4, "accumulate")
    assert (birth.tensor, birth.index, birth.value) == ("h.4.fc.weight", (1, 0), np.inf)


def test_only_the_norm_or_only_the_loss():
    norm = find_birth(Core(gradients={"w": np.ones(2)}), CALLS, loss=1.0, norm=np.inf, step=1, raised={})
    assert (norm.phase, norm.tensor, norm.value) == ("backward", "grad_norm", np.inf)
    loss = find_birth(Core(gradients={"w": np.ones(2)}), CALLS, loss=np.inf, norm=1.0, step=1, raised={})
    assert (loss.phase, loss.tensor, loss.value) == ("forward", "loss", np.inf)


@pytest.mark.parametrize(("value", "cause"), [(np.inf, "sum overflow"), (np.nan, "unknown")])
def test_accumulated_overflow_in_the_engine_itself(value, cause):
    model = Model(CONFIG)
    ids = np.zeros((1, 4), np.int64)
    calls = [(ids, ids + 1, {"scale": 1.0, "step": 0, "micro": micro}) for micro in range(2)]
    for call in calls:
        model._core.accumulate(call[0], call[1], **call[2], add=call is not calls[0])
    name, gradient = next(iter(model._core.gradients().items()))
    gradient[0, 0] = value  # inf, as a sum that went over the top would leave it; NaN, as one would not
    birth = find_birth(model._core, calls, loss=1.0, norm=model._core.grad_norm(), step=3, raised={})
    assert (birth.op, birth.tensor, birth.index) == ("accumulate", name, (0, 0))
    assert birth.cause_class == cause


def test_refused_update():
    operands = {"weight": 1.0, "gradient": 0.0, "clip_factor": 1.0, "learning_rate": 0.1, "eps": 0.0}
    operands |= {"new exp_avg": 0.0, "new exp_avg_sq": 0.0, "1 - beta1^t": 0.1, "1 - beta2^t": 0.1}
    found = {"phase": "update", "rule": "adamw", "tensor": "h.0.ln.weight", "index": [3], "value": np.nan}
    found |= {"result": "weight", "dtype": "float32", "operands": operands}
    birth = refused_update(found, 8)
    assert (birth.step, birth.phase, birth.layer, birth.op, birth.index) == (8, "update", 0, "adamw", (3,))
    assert birth.cause_class == "0/0"
    assert birth.operands["learning_rate"] == 0.1
    operands["weight"] = np.inf
    spoilt = refused_update(found, 8)
    assert (spoilt.phase, spoilt.op, spoilt.value, spoilt.cause_class) == (
        "forward",
        "parameter",
        np.inf,
        "weight not finite",
    )


def test_layer_of():
    assert layer_of("transformer.h.12.mlp.weight") == 12
    assert layer_of("h.3.experts.7.weight") == 3
    assert layer_of("wte.weight") is None
    assert layer_of("h2.weight") is None
