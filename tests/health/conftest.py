"""For the doctor's tests: small models, text as ids, and a patient made of both."""

from __future__ import annotations

from dataclasses import asdict

import numpy as np
import pytest

import loopos
from loopos.data import TokenStream
from loopos.health.doctor import _settings
from loopos.health.doctor_patient import Batches, Patient

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
        kept = _settings({"learning_rate": 1e-3} | settings)
        if pairs is None:
            ids = np.frombuffer(TEXT.encode(), np.uint8)
            source = TokenStream(ids, seq_len=16, batch_size=kept.batch_size, vocab_size=256, seed=kept.seed)
        else:
            source = Batches([[pair] for pair in pairs])
        return Patient(model, source, asdict(kept), trainer, quick)

    return make
