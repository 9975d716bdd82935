"""Masked arrays are refused everywhere: to numpy's C interface they are arrays without a mask."""

import re

import numpy as np
import pytest

import loopos
from loopos import checks, ops, optim
from loopos.data.tokenizer import ByteTokenizer

F = np.float32
IDS = np.arange(12).reshape(2, 6) % 5
X = np.linspace(-1, 1, 12, dtype=F).reshape(2, 6)
Q = np.linspace(-1, 1, 24, dtype=F).reshape(1, 2, 3, 4)
ROWS = np.array([[0, 1, 2], [0, 1, 2]])
STORED = ops.store(np.ones((3, 6), F), "bfloat16")
ARGUMENTS = {
    **dict.fromkeys(("x", "y", "dy", "a", "gate", "up", "logits", "z", "d"), X),
    **dict.fromkeys(("weight", "bias", "magnitude"), np.ones(6, F)),
    **{"b": X.T.copy(), "dc": np.ones((2, 2), F), "mean": np.zeros(2, F), "rstd": np.ones(2, F)},
    **{"ids": IDS, "targets": np.array([0, 1]), "num_embeddings": 5, "num_positions": 5, "dloss": 1.0},
    **{"q": Q, "k": Q, "v": Q, "lse": np.zeros((1, 2, 3), F), "mask": np.ones((3, 3), bool)},
    **{"positions": np.arange(3), "p": 0.5, "seed": 1, "arrays": [X.copy()], "max_norm": 1.0, "f": "silu"},
    **{"images": np.ones((1, 4, 4, 1), F), "patch_size": 2, "image_shape": (4, 4, 1), "rows": 3, "prefix": 0},
    "storage": "bfloat16",
}
SPECIAL = {
    "add": {"b": X},
    "patches_backward": {"dy": np.ones((1, 4, 4), F)},
    "pool": {"x": Q[0]},
    "pool_backward": {"dy": np.ones((2, 4), F)},
    "prepend": {"x": Q[0], "prefix": Q[0]},
    "prepend_backward": {"dy": np.ones((2, 5, 4), F), "prefix": 2},
    "position_embedding": {"x": Q[0], "weight": np.ones((5, 4), F), "positions": ROWS},
    "position_embedding_backward": {"dy": Q[0], "positions": ROWS},
    "store": {"weight": np.ones((3, 6), F)},
    "stored_linear": {"weight": STORED, "bias": np.ones(3, F)},
    "stored_linear_backward": {"weight": STORED, "dy": np.ones((2, 3), F)},
    "linear": {"weight": np.ones((3, 6), F), "bias": np.ones(3, F)},
    "linear_backward": {"weight": np.ones((3, 6), F), "dy": np.ones((2, 3), F)},
    "embedding": {"weight": np.ones((5, 4), F)},
    "embedding_backward": {"dy": np.ones((2, 6, 4), F)},
    "logsumexp_backward": {"dy": np.ones(2, F)},
    "rope": {"x": Q},
    "rope_backward": {"dy": Q},
    "attention_backward": {"dy": Q, "y": Q},
    "dora": {"weight": np.ones((6, 6), F)},
    "dora_backward": {"weight": np.ones((6, 6), F)},
    "modulate": {"gate": "sigmoid"},
    "modulate_backward": {"gate": "sigmoid"},
}


def _arguments(name):
    """Sound arguments of one function of ops, by the names that its docstring's first line has."""
    signature = getattr(ops, name).__doc__.splitlines()[0]
    names = [n for n in re.findall(r"(\w+): ", signature) if n in ARGUMENTS]
    return {n: SPECIAL.get(name, {}).get(n, ARGUMENTS[n]) for n in names}


@pytest.mark.parametrize("name", ops.__all__)
def test_every_array_of_every_operation(name):
    sound = _arguments(name)
    assert sound, "no argument of this function is known here"
    getattr(ops, name)(**sound)
    arrays = [n for n, value in sound.items() if isinstance(value, np.ndarray) or n == "arrays"]
    assert arrays
    for argument in arrays:
        value = sound[argument]
        masked = [np.ma.masked_array(value[0])] if argument == "arrays" else np.ma.masked_array(value)
        with pytest.raises(TypeError, match="mask"):
            getattr(ops, name)(**{**sound, argument: masked})


def test_a_scalar_too():
    with pytest.raises(TypeError, match="masked array"):
        ops.cross_entropy_backward(np.ma.masked, X, np.array([0, 1]))


def test_other_subclasses_are_arrays(tmp_path):
    class Own(np.ndarray):
        pass

    np.save(tmp_path / "x.npy", X)
    for value in (X.view(Own), np.load(tmp_path / "x.npy", mmap_mode="r"), X.view(np.matrix)):
        np.testing.assert_array_equal(ops.relu(value), ops.relu(X))


CONFIG = loopos.ModelConfig(11, 8, 1, 2, 8)
MASKED = np.ma.masked_array(IDS, mask=IDS == 3)


class Data:
    def __init__(self, ids, targets):
        self.pair = ids, targets

    def batch(self, step, micro):
        return self.pair


CALLS = {
    "forward": lambda m: m.forward(MASKED),
    "loss, ids": lambda m: m.loss(MASKED, IDS),
    "loss, targets": lambda m: m.loss(IDS, MASKED),
    "loss_and_grads, ids": lambda m: m.loss_and_grads(MASKED, IDS),
    "loss_and_grads, targets": lambda m: m.loss_and_grads(IDS, MASKED),
    "generate": lambda m: m.generate(MASKED, 1),
    "load_state_dict": lambda m: m.load_state_dict({n: np.ma.masked_array(a) for n, a in m.state_dict().items()}),
    "train, ids": lambda m: loopos.train(m, MASKED.ravel(), max_steps=1, seq_len=4, progress=False),
    "train, ids of a batch": lambda m: loopos.train(m, Data(MASKED, IDS), max_steps=1, progress=False),
    "train, targets of a batch": lambda m: loopos.train(m, Data(IDS, MASKED), max_steps=1, progress=False),
    "train, eval_data": lambda m: loopos.train(
        m, IDS.ravel(), eval_data=MASKED.ravel(), max_steps=1, seq_len=4, progress=False
    ),
    "doctor": lambda m: loopos.doctor(m, MASKED.ravel()),
    "optimizer, params": lambda m: optim.SGD({"w": np.ma.masked_array(X.copy())}, 0.1),
    "optimizer, params with gaps": lambda m: optim.SGD({"w": np.ma.masked_array(X.copy()).T}, 0.1),
    "optimizer, grads": lambda m: optim.SGD({"w": X.copy()}, 0.1).step({"w": np.ma.masked_array(X)}),
    "optimizer, state": lambda m: optim.Adam({"w": X.copy()}).load_state_dict(
        {"step": 1, "exp_avg.w": np.ma.masked_array(X), "exp_avg_sq.w": X * X}
    ),
    "decode": lambda m: ByteTokenizer().decode(MASKED.ravel()),
}


@pytest.mark.parametrize("call", CALLS.values(), ids=CALLS.keys())
def test_models_training_and_optimizers(call):
    model = loopos.Model(CONFIG)
    before = {name: array.tobytes() for name, array in model.state_dict().items()}
    with pytest.raises(TypeError, match="masked array"):
        call(model)
    assert {name: array.tobytes() for name, array in model.state_dict().items()} == before


def test_the_check_itself():
    assert checks.unmasked("f", "x", X) is X
    assert checks.unmasked("f", "x", None) is None
    with pytest.raises(TypeError, match=r"f: x must not be a masked array.*filled"):
        checks.unmasked("f", "x", np.ma.masked_array(X))
