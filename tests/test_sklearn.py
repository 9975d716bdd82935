"""loopos.sklearn: an estimator as scikit-learn knows them, better than the commonest class, near TF-IDF."""

from __future__ import annotations

import ast
import os
import pickle
import subprocess
import sys
from pathlib import Path

import numpy as np
import pytest

import loopos

sklearn = pytest.importorskip("sklearn", reason="needs the extra [sklearn]")

from sklearn.base import clone  # noqa: E402
from sklearn.exceptions import NotFittedError  # noqa: E402
from sklearn.feature_extraction.text import TfidfVectorizer  # noqa: E402
from sklearn.linear_model import LogisticRegression  # noqa: E402
from sklearn.model_selection import GridSearchCV, cross_val_score, train_test_split  # noqa: E402
from sklearn.pipeline import make_pipeline  # noqa: E402
from sklearn.utils import estimator_checks  # noqa: E402

from loopos.sklearn import TextClassifier, _Rows  # noqa: E402

SMALL = {"d_model": 16, "n_head": 2, "epochs": 15, "batch_size": 8, "random_state": 0}
# The rest of scikit-learn's checks give fit arrays of numbers (N, features), which are no texts: estimators of texts,
# its own vectorizers too, are let off them by the tag two_d_array=False.
CHECKS = (
    "check_estimator_cloneable",
    "check_estimator_tags_renamed",
    "check_valid_tag_types",
    "check_estimator_repr",
    "check_no_attributes_set_in_init",
    "check_mixin_order",
    "check_parameters_default_constructible",
    "check_get_params_invariance",
    "check_set_params",
)


def generated(count=120, seed=0):
    """Texts of three classes, each with a few words of its own among common ones."""
    rng = np.random.default_rng(seed)
    own = {"sea": ["wave", "ship", "salt"], "sky": ["cloud", "wind", "bird"], "earth": ["stone", "root", "clay"]}
    common = ["the", "a", "of", "and", "is", "was", "near", "over"]
    texts, labels = [], []
    for i in range(count):
        label = list(own)[i % 3]
        words = [*rng.choice(common, 6), *rng.choice(own[label], 2)]
        texts.append(" ".join(rng.permutation(words)))
        labels.append(label)
    return texts, np.array(labels)


@pytest.fixture(scope="module")
def fitted():
    return TextClassifier(**SMALL).fit(*generated())


def documentation(packages):
    """Docstrings that come with Python, by package."""
    texts, labels = [], []
    for package in packages:
        for path in sorted((Path(os.__file__).parent / package).rglob("*.py")):
            for node in ast.walk(ast.parse(path.read_text(encoding="utf-8"))):
                text = ast.get_docstring(node) if isinstance(node, ast.FunctionDef | ast.ClassDef) else None
                if text and len(text) > 40:
                    texts.append(text)
                    labels.append(package)
    return texts, np.array(labels)


@pytest.mark.parametrize("name", CHECKS)
def test_the_checks_of_scikit_learn(name):
    getattr(estimator_checks, name)("TextClassifier", TextClassifier())


def test_all_checks_that_it_asks_for_pass():
    with pytest.warns(sklearn.exceptions.SkipTestWarning):
        estimator_checks.check_estimator(TextClassifier())


def test_probabilities_are_of_the_classes_alone(fitted):
    texts, labels = generated(seed=1)
    found = fitted.predict_proba(texts)
    assert found.shape == (120, 3)
    np.testing.assert_allclose(found.sum(axis=1), 1, rtol=1e-12)
    assert fitted.classes_.tolist() == ["earth", "sea", "sky"]
    assert (fitted.predict(texts) == fitted.classes_[found.argmax(axis=1)]).all()
    assert fitted.score(texts, labels) == (fitted.predict(texts) == labels).mean() > 0.9


def test_a_probability_is_the_softmax_of_the_label_tokens(fitted):
    ids = [fitted.vocabulary_.get(word, 0) for word in ("the", "ship", "unheard")] + [1]
    logits = fitted.model_.forward(np.array([ids]))[0, -1, fitted.label_ids_].astype(np.float64)
    expected = np.exp(logits) / np.exp(logits).sum()
    np.testing.assert_allclose(fitted.predict_proba(["The ship, unheard!"])[0], expected, rtol=1e-5)


def test_the_same_seed_gives_the_same_bits(fitted):
    again = TextClassifier(**SMALL).fit(*generated()).predict_proba(generated(seed=1)[0])
    assert (again == fitted.predict_proba(generated(seed=1)[0])).all()
    other = TextClassifier(**SMALL | {"random_state": 1}).fit(*generated()).predict_proba(generated(seed=1)[0])
    assert (again != other).any()


def test_every_epoch_has_each_text_once_in_an_order_of_its_own():
    orders = []
    for seed in (0, 1):
        data = _Rows([np.array([i, 1]) for i in range(7)], np.arange(7), 3, seed)
        assert len(data) == 3
        for epoch in (0, 1):
            orders.append([int(i) for at in range(3) for i in data.batch(3 * epoch + at, 0)[0][:, 0]])
    assert all(sorted(order) == list(range(7)) for order in orders)
    assert len(set(map(tuple, orders))) == 4


def test_the_settings_reach_the_training(monkeypatch):
    given = {}
    monkeypatch.setattr("loopos.sklearn.train", lambda model, data, **more: given.update(more, model=model))
    settings = {"learning_rate": 0.5, "weight_decay": 0.25, "threads": 1, "precision": "bf16"}
    more = {"dropout": 0.125, "warmup": 0.5, "verbose": True}
    TextClassifier(**SMALL, **settings, **more).fit(*generated(30))
    model, seed = given.pop("model"), given.pop("seed")
    assert given == settings | {"max_steps": 15 * 4, "warmup_steps": 30, "progress": True}
    assert model.config.dropout == 0.125
    again = loopos.Model(model.config, seed=seed)
    assert all((again.parameters()[name] == view).all() for name, view in model.parameters().items())


def test_of_a_text_its_beginning_is_read_and_of_the_words_the_commonest():
    made = TextClassifier(**SMALL | {"epochs": 1}, max_length=3, max_features=5).fit(*generated(30))
    words = " ".join(list(made.vocabulary_)[:3])
    one, same, other = made.predict_proba([f"{words} ship", f"{words} wind", f"wind {words}"])
    assert (one == same).all()
    assert (one != other).any()
    assert len(made.vocabulary_) == 5
    assert made.n_cut_ == 30


def test_it_is_near_tfidf_and_far_above_the_commonest_class():
    texts, labels = documentation(["email", "http", "unittest"])
    split = train_test_split(texts, labels, random_state=0, stratify=labels, test_size=0.3)
    known, unknown, right, expected = split
    peer = (
        make_pipeline(TfidfVectorizer(), LogisticRegression(max_iter=1000)).fit(known, right).score(unknown, expected)
    )
    commonest = max((expected == each).mean() for each in set(expected))
    made = TextClassifier(d_model=32, max_length=48, max_features=2000, random_state=0).fit(known, right)
    assert made.score(unknown, expected) > commonest + 0.2
    assert made.score(unknown, expected) > peer - 0.05
    assert made.n_cut_ > 0


def test_params_clone_search_and_cross_validation(fitted):
    twin = clone(fitted)
    assert twin.get_params() == fitted.get_params()
    assert not hasattr(twin, "classes_")
    assert twin.set_params(epochs=1).epochs == 1
    texts, labels = generated(30)
    assert len(cross_val_score(twin, texts, labels, cv=3)) == 3
    search = GridSearchCV(twin, {"d_model": [8, 16]}, cv=2).fit(texts, labels)
    assert search.best_params_["d_model"] in (8, 16)
    assert make_pipeline(twin).fit(texts, labels).predict(texts).shape == (30,)


def test_it_is_pickled_with_what_it_learned(fitted):
    texts, _ = generated(9, seed=2)
    assert (pickle.loads(pickle.dumps(fitted)).predict_proba(texts) == fitted.predict_proba(texts)).all()


def test_classes_may_be_numbers_and_texts_an_array():
    texts, labels = generated(30)
    numbers = np.unique(labels, return_inverse=True)[1] * 10
    made = TextClassifier(**SMALL | {"epochs": 1}).fit(np.array(texts, dtype=object), list(numbers))
    assert made.classes_.tolist() == [0, 10, 20]
    assert made.predict(np.array(texts)).dtype == numbers.dtype


def test_a_pretrained_folder_is_trained_further(tmp_path):
    from loopos import Tokenizer

    pytest.importorskip("tokenizers", reason="needs the extra [hf]")
    texts, labels = generated()
    tokenizer = Tokenizer.train(texts, vocab_size=300)
    base = loopos.Model(loopos.ModelConfig(tokenizer.vocab_size, 64, 1, 2, 16), seed=1)
    base.tokenizer = tokenizer
    base.save_pretrained(tmp_path)
    small = loopos.Model.from_pretrained(tmp_path, weights="bfloat16")
    small.parameters()["pos_embed.weight"][...] = 0.5  # a number that bfloat16 has
    small.save_pretrained(tmp_path)  # as most models are published
    made = TextClassifier(str(tmp_path), **SMALL | {"learning_rate": 0.01, "epochs": 25}).fit(texts, labels)
    assert made.vocabulary_ is None
    assert len(set(made.label_ids_.tolist())) == 3
    assert made.score(*generated(seed=1)) > 0.9


@pytest.mark.parametrize(
    ("X", "y", "error", "says"),
    [
        ("a text", ["a"], ValueError, "got one text; put it in a list"),
        (["a", 7], ["a", "b"], TypeError, r"X\[1\] must be a text, got 7"),
        (["a", "b"], ["a"], ValueError, "X has 2 texts and y has 1 classes"),
        (["a", "b"], ["a", "a"], ValueError, "two or more classes, got 1 class"),
        (["a", "b"], [0.5, 0.7], ValueError, "Unknown label type"),
        (np.zeros((2, 3)), ["a", "b"], ValueError, r"an array of shape \(2, 3\)"),
        (7, ["a"], TypeError, "must be a sequence of texts, got 7"),
        (["a", "b"], [["a"], ["b"]], ValueError, "one class a text"),
        ([], [], ValueError, "two or more classes"),
    ],
)
def test_what_is_no_text_or_no_class_is_refused(X, y, error, says):
    with pytest.raises(error, match=says):
        TextClassifier(**SMALL).fit(X, y)


def test_bad_settings_are_refused_in_fit():
    for name, value in (("epochs", 0), ("max_length", -1), ("warmup", 2), ("learning_rate", -1)):
        with pytest.raises(ValueError, match=name):
            TextClassifier(**SMALL | {name: value}).fit(*generated(30))


def test_before_fit_nothing_is_predicted():
    for method in ("predict", "predict_proba"):
        with pytest.raises(NotFittedError):
            getattr(TextClassifier(), method)(["a"])


def test_an_empty_text_is_a_text(fitted):
    assert fitted.predict([""]).shape == (1,)
    assert fitted.predict([]).shape == (0,)


def test_without_the_package_the_extra_is_named():
    code = "import sys; sys.modules['sklearn'] = None; sys.modules['sklearn.base'] = None\nimport loopos.sklearn"
    beside = Path(loopos.__file__).parents[1]
    run = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, timeout=60, cwd=beside)
    assert "ImportError: loopos.sklearn needs scikit-learn: pip install 'loopos[sklearn]'" in run.stderr
