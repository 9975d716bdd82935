"""Updates to bundle, healthy and sick, for the tests of replay and of what rests on it; small models, text as ids and a
patient made of both for the doctor's."""

from __future__ import annotations

import dataclasses

import numpy as np
import pytest

import loopos
from loopos.data.batches import TokenStream
from loopos.health.doctor.patient import Batches, Patient
from loopos.health.replay.replay import Repeater
from loopos.optim.training import for_training
from loopos.run.bundle import Bundle, Outcome
from loopos.run.updates import Update
from loopos.training import default_settings

CONFIG = loopos.ModelConfig(
    vocab_size=32, context_length=8, n_layer=2, n_head=2, d_model=8, dropout=0.1, tie_embeddings=False
)
SETTINGS = default_settings(
    max_steps=20, batch_size=4, grad_accum=2, learning_rate=1e-2, lr_schedule="constant", seed=11, log_every=1
)


@pytest.fixture
def bundled():
    """bundled(spoil, learning_rate=, dtype=, dropout=, batches=, **settings): the bundle of update 7 of a small model;
    ``spoil(parameters)`` changes its weights before."""

    def make(spoil=None, *, learning_rate=1e-2, dtype="float32", dropout=0.1, ids=None, **changed):
        model = loopos.Model(dataclasses.replace(CONFIG, dropout=dropout), seed=3, dtype=dtype)
        settings = dataclasses.replace(SETTINGS, **changed)
        optimizer = for_training(model=model, **settings.update_rule())
        if spoil is not None:
            spoil(model.parameters())
        if ids is None:
            ids = np.random.default_rng(0).integers(0, 31, (settings.grad_accum, 4, 9))
        batches = [(part[:, :-1].copy(), part[:, 1:].copy()) for part in ids]
        blank = Update(0.0, 0.0, 0, 0, batches=tuple(batches))
        bundle = Bundle.of(model, optimizer, settings, blank, step=7, learning_rate=learning_rate)
        bundle = dataclasses.replace(bundle, weights=model.state_dict())
        return dataclasses.replace(bundle, outcome=Outcome.of(Repeater(bundle).update()))

    return make


TEXT = "to be, or not to be, that is the question: whether 'tis nobler in the mind to suffer\n" * 6


@pytest.fixture
def text():
    return TEXT


@pytest.fixture
def config():
    """config(**changed): a GPT-2-like one for bytes."""

    def make(**changed):
        fields = dict(vocab_size=256, context_length=16, n_layer=2, n_head=2, d_model=32) | changed
        return loopos.ModelConfig(**fields)

    return make


@pytest.fixture
def patient(config):
    """patient(model, pairs=None, trainer=None, quick=False, **settings): on TEXT, or on given (ids, targets)."""

    def make(model=None, pairs=None, trainer=None, quick=False, **settings):
        model = loopos.Model(config()) if model is None else model
        kept = default_settings(**{"learning_rate": 1e-3} | settings)
        if pairs is None:
            ids = np.frombuffer(TEXT.encode(), np.uint8)
            source = TokenStream(ids, seq_len=16, batch_size=kept.batch_size, vocab_size=256, seed=kept.seed)
        else:
            source = Batches([[pair] for pair in pairs])
        return Patient(model, source, dataclasses.asdict(kept), trainer, quick)

    return make
