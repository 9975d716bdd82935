"""What a training minimises: distillation, preferences, classes, regularisation; each against torch or its formula."""

from __future__ import annotations

import copy
import dataclasses

import numpy as np
import pytest

import loopos
from loopos.data.batches import IGNORE
from loopos.run.objectives import SELF, CrossEntropy, Preferences, means, objective_of
from loopos.training import default_settings

CONFIG = loopos.ModelConfig(64, 32, 2, 2, 16, norm="rmsnorm", position="rope")
TEXT = "to be, or not to be, that is the question. " * 20
PAIRS = [{"prompt": f"q{i}:", "chosen": "yes, sir", "rejected": "no"} for i in range(8)]


class Bytes:
    """Ids below 64, and an end of text."""

    vocab_size, eos = 64, 63

    def encode(self, text):
        return [byte % 62 for byte in text.encode()]

    def decode(self, ids):
        return " ".join(map(str, ids))


def train(model, data, **settings):
    defaults = {"tokenizer": Bytes(), "batch_size": 4, "max_steps": 5, "log_every": 1, "progress": False}
    return loopos.train(model, data, **defaults | settings)


def pair_batch(dtype="float64"):
    rng = np.random.default_rng(0)
    ids, targets = rng.integers(0, 64, (2, 6, 10))
    targets[:, :4] = IGNORE
    targets[3, 8:] = IGNORE
    policy, reference = loopos.Model(CONFIG, seed=1, dtype=dtype), loopos.Model(CONFIG, seed=2, dtype=dtype)
    return policy, reference, ids, targets


@pytest.mark.reference
def test_dpo_is_the_formula_in_torch():
    """Loss, and the gradient by the logits, which the model then carries to its parameters."""
    torch = pytest.importorskip("torch")
    policy, reference, ids, targets = pair_batch()
    objective = Preferences(default_settings(task="dpo", dpo_beta=0.3), policy, reference)
    batch, core = (ids, targets), policy._core
    scale = 1 / objective.units(batch)
    objective.begin()
    told = objective.keywords(ids, targets, {"scale": scale})
    total, count, healthy = core.accumulate(ids, targets, scale=scale, **told)
    assert healthy
    assert count == (targets != IGNORE).sum()

    logits = torch.tensor(policy.forward(ids), requires_grad=True)
    labels = torch.tensor(targets)

    def sums(logits):
        each = logits.log_softmax(-1).gather(-1, labels.clamp(min=0)[..., None])[..., 0]
        return (each * (labels != IGNORE)).sum(-1)

    p, r = sums(logits), sums(torch.tensor(reference.forward(ids)))
    rewards = 0.3 * (p - r)
    margins = rewards[0::2] - rewards[1::2]
    loss = -torch.nn.functional.logsigmoid(margins).mean()
    loss.backward()
    np.testing.assert_allclose(total * scale, loss.item(), rtol=1e-12)
    want = {name: g.copy() for name, g in core.gradients().items()}
    core.accumulate(ids, targets, scale=1.0, between=("logits", lambda _: (0.0, logits.grad.numpy())))
    for name, gradient in core.gradients().items():
        np.testing.assert_allclose(want[name], gradient, rtol=1e-9, atol=1e-13, err_msg=name)
        assert gradient.any()
    told = objective.measured()
    np.testing.assert_allclose(told["reward_margin"], margins.mean().item(), rtol=1e-9)
    assert told["reward_accuracy"] == (margins > 0).double().mean().item()
    np.testing.assert_allclose(told["reward_chosen"], rewards[0::2].mean().item(), rtol=1e-9)
    value, pairs, sums_ = objective.score(core, batch)
    np.testing.assert_allclose(value / pairs, loss.item(), rtol=1e-12)
    assert means(sums_) == pytest.approx(told, rel=1e-12)


def test_dpo_starts_at_log_two_and_prefers_what_was_chosen():
    model, reference = loopos.Model(CONFIG, seed=1), loopos.Model(CONFIG, seed=1)
    before = reference.state_dict()
    result = train(model, PAIRS, eval_data=PAIRS[:3], task="dpo", teacher=reference, max_steps=20, learning_rate=3e-3)
    first, last = result.history[0], result.history[-1]
    np.testing.assert_allclose(first["loss"], np.log(2), rtol=1e-6)
    assert first["reward_margin"] == 0
    assert last["loss"] < 0.6
    assert last["reward_accuracy"] == last["eval_reward_accuracy"] == 1.0
    assert last["eval_loss"] < 0.6
    assert last["reward_chosen"] > last["reward_rejected"]
    assert last["valid_tokens"] == 4 * (len("yes, sir") + 1 + len("no") + 1)
    for name, weight in reference.state_dict().items():
        np.testing.assert_array_equal(weight, before[name])


def test_micro_batches_of_pairs_are_one_batch():
    """grad_accum pairs at a time give the gradient of all together: the mean over pairs, however long."""
    results = []
    for shape in ({"batch_size": 8, "grad_accum": 1}, {"batch_size": 2, "grad_accum": 4}):
        model = loopos.Model(CONFIG, seed=1, dtype="float64")
        teacher = loopos.Model(CONFIG, seed=2, dtype="float64")
        results.append(train(model, PAIRS, task="dpo", teacher=teacher, max_steps=3, optimizer="sgd", **shape))
    for name, weight in results[0].model.parameters().items():
        np.testing.assert_allclose(weight, results[1].model.parameters()[name], rtol=1e-10, atol=1e-12)
    for one, other in zip(*(r.history for r in results), strict=True):
        assert one["loss"] == pytest.approx(other["loss"], rel=1e-12)
        assert one["reward_margin"] == pytest.approx(other["reward_margin"], rel=1e-9)


@pytest.mark.parametrize("distill", ["kl", "mse", "normalized_mse", "cosine"])
def test_a_student_learns_its_teacher(distill):
    teacher, student = loopos.Model(CONFIG, seed=1), loopos.Model(CONFIG, seed=2)
    before = teacher.state_dict()
    shape = {"max_steps": 30, "learning_rate": 3e-3, "seq_len": 16}
    result = train(student, TEXT, teacher=teacher, distill=distill, **shape)
    assert result.history[-1]["loss"] < 0.5 * result.history[0]["loss"]
    for name, weight in teacher.state_dict().items():
        np.testing.assert_array_equal(weight, before[name])


def test_cross_entropy_beside_the_teacher():
    """With a teacher of almost no weight it is the training without one."""
    shape = {"seq_len": 16, "max_steps": 3, "learning_rate": 1e-3}
    spec = loopos.Distill("kl", weight=1e-12, cross_entropy=1.0)
    teacher = loopos.Model(CONFIG, seed=1, dtype="float64")
    taught = train(loopos.Model(CONFIG, seed=2, dtype="float64"), TEXT, teacher=teacher, distill=spec, **shape)
    alone = train(loopos.Model(CONFIG, seed=2, dtype="float64"), TEXT, **shape)
    for a, b in zip(taught.history, alone.history, strict=True):
        np.testing.assert_allclose(a["loss"], b["loss"], rtol=1e-9)


def test_a_student_goes_on_bit_for_bit(tmp_path):
    def run(steps, **more):
        teacher, student = loopos.Model(CONFIG, seed=1), loopos.Model(CONFIG, seed=2)
        shape = {"seq_len": 16, "learning_rate": 1e-3, "lr_schedule": "constant"}
        return train(student, TEXT, teacher=teacher, max_steps=steps, **shape | more)

    whole = run(6)
    run(3, output_dir=tmp_path)
    rest = run(6, output_dir=tmp_path, resume="auto")
    for name, weight in whole.model.parameters().items():
        np.testing.assert_array_equal(weight, rest.model.parameters()[name])
    with pytest.warns(UserWarning, match="distill is"):
        run(7, output_dir=tmp_path, resume="auto", distill="mse")


def test_the_teachers_loss_stands_beside_the_students():
    teacher, student = loopos.Model(CONFIG, seed=1), loopos.Model(CONFIG, seed=2)
    held_out = TEXT[:200]
    shape = {"seq_len": 16, "max_steps": 4, "eval_every": 2}
    history = train(student, TEXT, eval_data=held_out, teacher=teacher, **shape).history
    scored = [entry for entry in history if "eval_loss" in entry]
    assert len(scored) == 2
    alone = train(teacher, TEXT, eval_data=held_out, seq_len=16, max_steps=1, learning_rate=0.0).history[-1][
        "eval_loss"
    ]
    for entry in scored:
        assert entry["eval_teacher_loss"] == alone
        assert entry["eval_loss"] != alone


def test_what_is_no_cross_entropy_is_not_compared_with_the_vocabulary():
    """Hidden states may be as far apart as they like, and no entropy of tokens is their measure."""
    teacher, student = loopos.Model(CONFIG, seed=1), loopos.Model(CONFIG, seed=2)
    teacher.parameters()["final_norm.weight"][:] = 100
    result = train(student, TEXT, teacher=teacher, distill="mse", seq_len=16, max_steps=3)
    assert result.history[0]["loss"] > 1000
    assert not [finding for finding in result.findings if finding.name == "loss"]
    assert result.sample is None
    assert train(loopos.Model(CONFIG), TEXT, seq_len=16, max_steps=1).sample is not None


def test_regularisation_is_the_sum_of_squares():
    model = loopos.Model(CONFIG, seed=1, dtype="float64")
    model.freeze("tok_embed.*")
    core, objective = model._core, CrossEntropy(default_settings(regularization_lambda=0.25))
    ids = np.arange(12).reshape(2, 6)
    core.accumulate(ids, ids, scale=1.0)
    before = {name: g.copy() for name, g in core.gradients().items()}
    added = objective.regularize(core)
    trained = model.parameters(trainable=True)
    assert "tok_embed.weight" not in trained
    np.testing.assert_allclose(added, 0.25 * sum((w**2).sum() for w in trained.values()), rtol=1e-12)
    for name, gradient in core.gradients().items():
        np.testing.assert_allclose(gradient, before[name] + 0.5 * trained[name], rtol=1e-12)
    shape = {"seq_len": 16, "max_steps": 1}
    plain, heavy = (
        train(loopos.Model(CONFIG, seed=2), TEXT, regularization_lambda=how, **shape).history[0] for how in (0.0, 0.25)
    )
    weights = loopos.Model(CONFIG, seed=2).parameters().values()
    squares = sum(float((w.astype(float) ** 2).sum()) for w in weights)
    np.testing.assert_allclose(heavy["loss"] - plain["loss"], 0.25 * squares, rtol=1e-5)
    assert heavy["grad_norm"] > plain["grad_norm"]


def spoiled(model, seed=0):
    """The adapter's matrices away from their start, so that it is not the base."""
    rng = np.random.default_rng(seed)
    for weight in model.parameters(trainable=True).values():
        weight += 0.3 * rng.standard_normal(weight.shape).astype(weight.dtype)
    return model


@pytest.mark.parametrize("distill", ["kl", "normalized_mse"])
def test_a_model_without_its_adapter_teaches_it(distill):
    """One model in memory; the same numbers as with a second one."""
    histories = []
    for teacher in ("self", loopos.Model(CONFIG, seed=1, dtype="float64")):
        model = loopos.Model(CONFIG, seed=1, dtype="float64")
        model.add_adapter(loopos.LoRA(rank=2), seed=3)
        base = model.parameters(trainable=False)
        before = {name: weight.copy() for name, weight in base.items()}
        settings = {"distill": distill, "seq_len": 16, "learning_rate": 3e-3, "max_steps": 8}
        histories.append(train(spoiled(model), TEXT, teacher=teacher, **settings).history)
        for name, weight in base.items():
            np.testing.assert_array_equal(weight, before[name])
    assert histories[0][-1]["loss"] < 0.9 * histories[0][0]["loss"]
    for one, other in zip(*histories, strict=True):
        assert one["loss"] == other["loss"]
        assert one["grad_norm"] == other["grad_norm"]


def test_at_the_start_an_adapter_is_its_teacher():
    """Its second matrix is zero, so there is nothing to learn, and nothing is learned."""
    model = loopos.Model(CONFIG, seed=1)
    history = train(model, TEXT, adapter=loopos.LoRA(rank=2), teacher="self", seq_len=16, weight_decay=0.0).history
    for entry in history:
        assert entry["loss"] == entry["grad_norm"] == 0.0


def test_dpo_with_an_adapter():
    """The reference is the base; with another model of the same weights as reference the numbers are the same."""
    histories = []
    for teacher in (None, loopos.Model(CONFIG, seed=1, dtype="float64")):
        model = loopos.Model(CONFIG, seed=1, dtype="float64")
        settings = {"adapter": loopos.LoRA(rank=2), "learning_rate": 1e-2, "max_steps": 10}
        histories.append(train(model, PAIRS, eval_data=PAIRS[:4], task="dpo", teacher=teacher, **settings).history)
    first, last = histories[0][0], histories[0][-1]
    np.testing.assert_allclose(first["loss"], np.log(2), rtol=1e-12)
    assert last["loss"] < 0.65
    assert last["eval_reward_accuracy"] == 1.0
    for one, other in zip(*histories, strict=True):
        for name in ("loss", "grad_norm", "reward_margin"):
            assert one[name] == other[name]


def test_a_number_that_is_not_finite_is_found_in_a_student():
    teacher, student = loopos.Model(CONFIG, seed=1), loopos.Model(CONFIG, seed=2)
    teacher.parameters()["final_norm.weight"][3] = np.inf
    with pytest.raises(loopos.NonFiniteError, match=r"teacher.*No bundle is written") as caught:
        train(student, TEXT, teacher=teacher, seq_len=16)
    assert caught.value.birth.tensor == "teacher.logits"
    with pytest.raises(loopos.NonFiniteError) as caught:
        train(loopos.Model(CONFIG, seed=2), TEXT, teacher=teacher, distill="mse", seq_len=16)
    assert caught.value.birth.op == "mse"


def test_refusals():
    model, other = loopos.Model(CONFIG), loopos.Model(CONFIG, dtype="float64")
    with pytest.raises(ValueError, match="teacher='self' is the model without its adapter, and it has none"):
        train(model, TEXT, teacher=SELF)
    with pytest.raises(ValueError, match="the reference of task='dpo' is the model without its adapter"):
        train(model, PAIRS, task="dpo")
    with pytest.raises(ValueError, match="teacher must be float32, as the model is, got float64"):
        train(model, TEXT, teacher=other)
    with pytest.raises(ValueError, match="the model itself"):
        train(model, TEXT, teacher=model)
    with pytest.raises(TypeError, match="teacher must be 'self' or a Model, got 'other'"):
        train(model, TEXT, teacher="other")
    with pytest.raises(ValueError, match="distill says how to learn of a teacher and needs teacher="):
        train(model, TEXT, distill="kl")
    with pytest.raises(ValueError, match="teacher is for distillation and task='dpo'"):
        train(model, PAIRS, task="classify", teacher=copy.deepcopy(model))
    with pytest.raises(ValueError, match="task must be one of 'lm', 'dpo', 'classify', got 'chat'"):
        train(model, TEXT, task="chat")
    with pytest.raises(TypeError, match=r"task='dpo' learns of examples: .*chosen"):
        train(model, TEXT, task="dpo", teacher=copy.deepcopy(model))
    with pytest.raises(ValueError, match="label_smoothing must be 0 with task='dpo'"):
        train(model, PAIRS, task="dpo", teacher=copy.deepcopy(model), label_smoothing=0.1)
    with pytest.raises(ValueError, match="distill goes with task='lm' and does nothing with task='dpo'"):
        train(model, PAIRS, task="dpo", teacher=copy.deepcopy(model), distill="kl")
    with pytest.raises(ValueError, match=r"label_smoothing 0\.1 is of a cross-entropy, and with a teacher there is"):
        train(model, TEXT, teacher=copy.deepcopy(model), label_smoothing=0.1)
    for name in ("dpo_beta", "regularization_lambda"):
        with pytest.raises(ValueError, match=f"{name} must be"):
            train(model, TEXT, **{name: -1.0})


@pytest.mark.parametrize(
    ("other", "settings", "message"),
    [
        ({"vocab_size": 80}, {}, "teacher must have vocab_size 64, as the model has, got a Model with vocab_size 80"),
        ({"vocab_size": 50}, {"distill": "mse"}, "teacher must have vocab_size of at least 64, got .* 50"),
        ({"d_model": 32}, {"distill": "cosine"}, "teacher must have d_model 16, as the model has, got .* 32"),
        ({"context_length": 8}, {}, "teacher must have context_length of at least 16, got .*context_length 8"),
        ({"labels": ("a", "b")}, {}, "teacher must have number of labels"),
        ({"vocab_size": 80}, {"task": "dpo"}, "teacher must have vocab_size 64"),
        ({"vocab_size": 50}, {"task": "dpo"}, "vocab_size of at least 64"),
        ({"context_length": 8}, {"task": "dpo"}, "context_length of at least 16"),
    ],
)
def test_a_teacher_that_does_not_fit_is_refused_before_the_first_update(other, settings, message, tmp_path):
    data = PAIRS if settings.get("task") == "dpo" else TEXT
    teacher = loopos.Model(dataclasses.replace(CONFIG, **other))
    with pytest.raises(ValueError, match=message):
        train(loopos.Model(CONFIG), data, teacher=teacher, seq_len=16, output_dir=tmp_path, **settings)
    assert not (tmp_path / "metrics.jsonl").exists()


def test_hidden_states_are_compared_over_a_larger_vocabulary():
    teacher = loopos.Model(dataclasses.replace(CONFIG, vocab_size=80), seed=1)
    assert train(loopos.Model(CONFIG), TEXT, teacher=teacher, distill="mse", seq_len=16).history[-1]["loss"] > 0


def test_the_objective_follows_the_settings():
    model = loopos.Model(CONFIG)
    assert type(objective_of(model, None, default_settings())) is CrossEntropy
    teacher = loopos.Model(CONFIG, seed=1)
    told = objective_of(model, teacher, default_settings(teacher="model")).keywords(np.zeros((1, 2), int), None, {})
    assert told["teaching"]["loss"] == "kl"
    assert told["teaching"]["teacher"] is teacher._core


def test_what_regularization_adds_stands_in_the_history():
    model = loopos.Model(CONFIG, seed=1)
    squares = sum(float(np.sum(np.square(view, dtype=np.float64))) for view in model.parameters().values())
    entry = train(model, TEXT, seq_len=16, max_steps=1, regularization_lambda=0.25).history[0]
    np.testing.assert_allclose(entry["regularization"], 0.25 * squares, rtol=1e-12)
    assert "regularization" not in train(loopos.Model(CONFIG), TEXT, seq_len=16, max_steps=1).history[0]
    settings = {"task": "dpo", "adapter": loopos.LoRA(rank=2), "regularization_lambda": 0.25, "max_steps": 1}
    assert train(loopos.Model(CONFIG), PAIRS, **settings).history[0].keys() >= {"regularization", "reward_margin"}
