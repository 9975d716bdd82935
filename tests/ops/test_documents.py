"""Documents that share a row: the same as rows of their own, on every way through the model, and in training."""

from __future__ import annotations

import math

import measure_documents as made
import numpy as np
import pytest

import loopos

each_kind = pytest.mark.parametrize("kind", made.KINDS)
each_dtype = pytest.mark.parametrize("dtype", ["float32", "float64"])


def model_of(kind, dtype="float32", **more):
    return loopos.Model(loopos.ModelConfig(**{**made.BASE, **made.KINDS[kind], **more}), seed=3, dtype=dtype)


@pytest.mark.parametrize("rows", [made.ROWS, made.ROWS[:1]], ids=["in parts", "as a whole"])
@each_kind
@each_dtype
def test_a_packed_row_is_its_documents_in_rows_of_their_own(kind, dtype, rows):
    found = made.errors(kind, dtype, rows)
    assert max(found.values()) < (1e-12 if dtype == "float64" else 1e-6), found


def test_on_every_instruction_set(measure):
    worst = measure("../support/measure_documents.py")["worst"]
    assert len(worst) == 2 * len(made.KINDS)
    assert all(error < (1e-12 if "float64" in name else 1e-6) for name, error in worst.items()), worst


@each_kind
@each_dtype
def test_one_document_has_the_bits_of_none(kind, dtype):
    model = model_of(kind, dtype)
    ids, targets, _ = made.batch()
    one = np.full(ids.shape, 7, np.int32)
    assert model.forward(ids, documents=one).tobytes() == model.forward(ids).tobytes()
    assert model.loss(ids, targets, documents=one) == model.loss(ids, targets)
    (packed, ours), (plain, theirs) = (
        model.loss_and_grads(ids, targets, documents=one),
        model.loss_and_grads(ids, targets),
    )
    assert packed == plain
    assert all(gradient.tobytes() == theirs[name].tobytes() for name, gradient in ours.items())
    assert model.loss_and_grads(ids, targets, documents=made.numbers())[0] != plain


@each_kind
def test_the_gradient_is_the_derivative(kind):
    model = model_of(kind, "float64", context_length=9, vocab_size=13, d_model=8)
    rng = np.random.default_rng(0)
    ids, targets = rng.integers(0, 13, (2, 3, 9))
    documents = np.array([[0, 1, 1, 1, 1, 4, 4, 4, 4], [2] * 9, [0, 0, 0, 1, 2, 3, 4, 5, 6]])
    assert loopos.gradcheck(model, (ids, targets, documents))


@each_kind
@each_dtype
def test_bits_do_not_depend_on_threads(kind, dtype, check_threads):
    model, (ids, targets, documents) = model_of(kind, dtype), made.batch()

    def computed():
        loss, gradients = model.loss_and_grads(ids, targets, documents=documents)
        return [np.float64(loss), model.forward(ids, documents=documents), *gradients.values()]

    check_threads(computed)


@each_kind
@each_dtype
def test_a_nan_stays_in_its_document(kind, dtype):
    model = model_of(kind, dtype)
    ids, _, documents = made.batch()
    ids[ids == 60] = 0
    want = model.forward(ids, documents=documents)
    model.parameters()["tok_embed.weight"][60] = math.nan
    ids[0, 41] = 60  # in the third of five documents
    got = model.forward(ids, documents=documents)
    spoiled = np.isnan(got).any(-1)
    inside = documents == 2
    inside[1:] = False
    # The head is tied, so every logit of that token is NaN: what counts is the others.
    others = np.delete(got, 60, -1)
    assert np.isnan(others[0, 41]).all()
    assert not np.isnan(others[~inside]).any()
    assert spoiled.all()
    np.testing.assert_allclose(others[~inside], np.delete(want, 60, -1)[~inside], rtol=0, atol=1e-5)


def test_refusals():
    model = model_of("gpt2")
    ids, targets, documents = made.batch()
    falling = documents.copy()
    falling[2, 95] = -1
    for wrong, error, words in [
        (falling, ValueError, r"never fall along a row .* got -1 after 0 at \[2, 95\]"),
        (documents[:1], ValueError, rf"documents must have the shape of ids \({len(ids)}, 96\), got \(1, 96\)"),
        (documents.astype(float), TypeError, "documents must be a numpy array of dtype int32 or int64, got"),
        (documents.tolist(), TypeError, "documents must be a numpy array of dtype int32 or int64, got"),
    ]:
        with pytest.raises(error, match=words):
            model.forward(ids, documents=wrong)
        with pytest.raises(error, match=words):
            model.loss(ids, targets, documents=wrong)
        with pytest.raises(error, match=words):
            model.loss_and_grads(ids, targets, documents=wrong)
        with pytest.raises(error, match=words):
            loopos.trace_step(model, ids, targets, documents=wrong)
    empty = np.zeros((0, 5), int)
    assert model.forward(empty, documents=empty).shape == (0, 5, 61)
    first = np.array([[3, 3, 5], [1, 2, 2]])  # the next row may begin lower
    assert model.forward(first, documents=first).shape == (2, 3, 61)


class Packed:
    """The batches of measure_documents, with their documents or each of them alone in a row of its own, which is filled
    up with what does not count."""

    def __init__(self, packed, kept=None):
        self._packed, self._kept = packed, kept

    def __len__(self):
        return 4

    def batch(self, step, micro):
        ids, targets, documents = made.batch(seed=step % 4, rows=made.ROWS[:4])
        if self._packed:
            return ids, targets, documents
        parts = list(made.each_document(documents))
        rows, labels = np.zeros((len(parts), 96), int), np.full((len(parts), 96), -100)
        for row, (b, part) in enumerate(parts):
            rows[row, : part.stop - part.start] = ids[b, part]
            labels[row, : part.stop - part.start] = targets[b, part]
        return rows, labels


@each_kind
def test_training_and_evaluation_take_them(kind):
    results = [
        loopos.train(
            model_of(kind, "float64"),
            Packed(packed),
            eval_data=Packed(packed),
            max_steps=3,
            learning_rate=1e-2,
            eval_every=3,
            progress=False,
        )
        for packed in (True, False)
    ]
    (ours, theirs), (a, b) = [[result.model.state_dict() for result in results], [r.history[-1] for r in results]]
    assert a["eval_loss"] == pytest.approx(b["eval_loss"], rel=1e-9)
    assert a["loss"] == pytest.approx(b["loss"], rel=1e-9)
    for name, weight in ours.items():
        np.testing.assert_allclose(weight, theirs[name], rtol=0, atol=1e-9)


def test_a_refused_update_is_done_again_with_its_documents(tmp_path):
    def spoil(info):
        info["model"].parameters()["blocks.1.mlp.down_proj.weight"][3, 2] = math.inf

    model = model_of("llama")
    with pytest.raises(loopos.NonFiniteError) as caught:
        loopos.train(model, Packed(True), max_steps=3, output_dir=tmp_path, progress=False, callbacks=[Hook(spoil)])
    report = loopos.replay(tmp_path)
    assert report.reproduced, report
    assert report.birth == caught.value.birth


class Hook:
    def __init__(self, done):
        self.on_step_end = done
