"""Learning rates: given, usual, swept."""

from __future__ import annotations

import pytest

from loopos.compare import rates
from loopos.optim.rules import RULES
from loopos.training import default_settings


def test_every_rule_has_a_usual_rate_and_keywords_that_train_takes():
    assert set(rates.USUAL) == set(RULES)
    for name in RULES:
        settings = default_settings(**rates.keywords(name, 0.01))
        assert settings.optimizer == name
        assert settings.learning_rate == (0.001 if name == "muon" else 0.01)
        assert settings.min_lr == settings.learning_rate / 10
        assert settings.muon_lr == (0.01 if name == "muon" else None)


def test_unknown_and_double_names_are_refused_with_those_that_exist():
    with pytest.raises(ValueError, match="'adamw', 'adam', 'sgd', 'lion', 'muon'"):
        rates.named(["adamw", "adagrad"])
    with pytest.raises(ValueError, match="'sgd' twice"):
        rates.named(["sgd", "sgd"])
    with pytest.raises(ValueError, match="got none; there are adamw"):
        rates.named([])


def test_given_rates():
    assert rates.given("adamw=1e-3, sgd=0.1", ["adamw", "sgd", "lion"]) == {"adamw": 1e-3, "sgd": 0.1}
    assert rates.given("0.01", ["adamw", "sgd"]) == {"adamw": 0.01, "sgd": 0.01}
    for text, words in (
        ("adamw=fast", "got 'adamw=fast'"),
        ("adamw=0", "above 0"),
        ("adamw=nan", "above 0"),
        ("muon=1", "which is not compared; compared are adamw"),
        ("adamw=1,adamw=2", "two rates"),
    ):
        with pytest.raises(ValueError, match=words):
            rates.given(text, ["adamw"])


def test_a_grid_is_even_on_a_logarithmic_scale_about_the_usual_rate():
    assert rates.grid("adamw") == [0.0001, 0.00032, 0.001, 0.0032, 0.01]
    assert rates.grid("adamw", 3) == [0.00032, 0.001, 0.0032]


def test_the_best_of_a_sweep_and_what_lies_beyond_its_edge():
    inside = {0.1: 3.0, 0.3: 2.0, 1.0: 2.5}
    assert rates.best_of(inside) == 0.3
    assert rates.beyond(inside) is None
    assert rates.beyond({0.1: 2.0, 0.32: 2.1}) == 0.032
    assert rates.beyond({0.1: 2.0, 0.32: 1.9}) == 1.0
    assert rates.beyond({0.1: 2.0, 0.32: None}) == 0.032
    assert rates.best_of({0.1: None}) is None
    assert rates.beyond({0.1: None, 1.0: None}) == 0.032


def test_of_rates_that_cannot_be_told_apart_the_lowest_is_taken():
    assert rates.alike({0.01: 0.7729, 0.0032: 0.7749, 0.001: 0.7776, 0.00032: 0.8241, 0.032: None}) == [
        0.001,
        0.0032,
        0.01,
    ]
    assert rates.alike({0.3: 2.0, 0.1: 2.021, 1.0: 2.1}) == [0.3]
    assert rates.alike({0.3: 2.0, 0.1: 2.019, 1.0: 2.1}) == [0.1, 0.3]
    assert rates.alike({0.1: None}) == []
