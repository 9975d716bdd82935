"""A text classifier for scikit-learn (extra [sklearn]): a small transformer of its own, or a pretrained folder."""

from __future__ import annotations

import os
import re
from collections import Counter
from collections.abc import Callable, Iterable, Sequence
from typing import Any

import numpy as np

from loopos import checks
from loopos.config import ModelConfig
from loopos.data.batches import IGNORE
from loopos.model import Model
from loopos.saved import read
from loopos.scoring.last import last_logits
from loopos.training import train

try:
    from sklearn.base import BaseEstimator, ClassifierMixin
    from sklearn.utils import check_random_state
    from sklearn.utils.multiclass import check_classification_targets
    from sklearn.utils.validation import check_is_fitted
except ImportError:
    raise ImportError("loopos.sklearn needs scikit-learn: pip install 'loopos[sklearn]'") from None

_WORD = re.compile(r"\w+")
_UNKNOWN, _END = 0, 1  # ids in front of the words
_PROMPT = "\nLabel:"


class TextClassifier(ClassifierMixin, BaseEstimator):
    """A transformer reads a text, and the token that it gives behind the text is the class.

    Each class has a token of its own. The model learns sequences of a text and the token of its class, with the loss
    on that token alone; probabilities are the softmax of the logits of these tokens behind the text, over them alone.

    folder      None: a new model of n_layer, n_head, d_model, dropout, whose tokens are the words of the training texts
                (lower case, the max_features most frequent; others are one unknown word). A folder that
                ``Model.from_pretrained`` opens (F16 and BF16 as float32): that model is trained further with
                the folder's own tokenizer, the text followed by "\\nLabel:", and the tokens of the classes are taken
                from its vocabulary
    max_length  tokens of a text that are read, from its beginning; 0: as many as the longest training text has, or the
                folder's context allows
    epochs, batch_size, learning_rate, weight_decay, warmup: of :func:`loopos.train`, with AdamW and a cosine schedule;
                warmup is the share of the updates in which the rate climbs
    random_state  an int, a RandomState or None, as scikit-learn has it: of the weights, the order and dropout. One int
                gives the same bits
    threads     for fit; None leaves the number as it is. verbose: shows the progress of fit
    precision   of products, of fit and later, as of :func:`loopos.train`

    After fit: classes_ (K,), model_ (a loopos.Model), label_ids_ (K,), the token of each class, vocabulary_ (dict of
    words to ids; None with a folder), n_cut_ (training texts that were longer than what is read).

    ``predict``, ``predict_proba`` and ``score`` take sequences of texts (N,). n_features_in_ does not exist: a text has
    no columns."""

    def __init__(
        self,
        folder: str | os.PathLike | None = None,
        *,
        n_layer: int = 1,
        n_head: int = 4,
        d_model: int = 64,
        dropout: float = 0.1,
        max_features: int = 10_000,
        max_length: int = 256,
        epochs: int = 10,
        batch_size: int = 16,
        learning_rate: float = 3e-3,
        weight_decay: float = 0.1,
        warmup: float = 0.1,
        random_state: Any = None,
        threads: int | None = None,
        verbose: bool = False,
        precision: str | None = None,
    ):
        self.folder = folder
        self.n_layer = n_layer
        self.n_head = n_head
        self.d_model = d_model
        self.dropout = dropout
        self.max_features = max_features
        self.max_length = max_length
        self.epochs = epochs
        self.batch_size = batch_size
        self.learning_rate = learning_rate
        self.weight_decay = weight_decay
        self.warmup = warmup
        self.random_state = random_state
        self.threads = threads
        self.verbose = verbose
        self.precision = precision

    def fit(self, X: Iterable[str], y: Iterable[Any]) -> TextClassifier:
        """X: texts (N,); y: their classes (N,), two or more different ones."""
        texts, labels = _texts(X), _labels(y)
        if len(texts) != len(labels):
            raise ValueError(f"TextClassifier: X has {len(texts)} texts and y has {len(labels)} classes; one for each")
        check_classification_targets(labels)
        classes, answers = np.unique(labels, return_inverse=True)
        if len(classes) < 2:
            raise ValueError(f"TextClassifier: y must have two or more classes, got {len(classes)} class: {classes}")
        self._check_settings()
        seed = int(check_random_state(self.random_state).randint(2**31 - 1))
        model, vocabulary, label_ids = self._start(texts, classes, seed)
        encode = _encoder(model, vocabulary)
        room = self._room(model, vocabulary)
        rows = [encode(text, room) for text in texts]
        data = _Rows([row for row, _ in rows], label_ids[answers], self.batch_size, seed)
        steps = self.epochs * len(data)
        train(
            model,
            data,
            max_steps=steps,
            learning_rate=self.learning_rate,
            warmup_steps=int(self.warmup * steps),
            weight_decay=self.weight_decay,
            seed=seed,
            threads=self.threads,
            precision=self.precision,
            progress=bool(self.verbose),
        )
        self.classes_, self.model_, self.label_ids_, self.vocabulary_ = classes, model, label_ids, vocabulary
        self.n_cut_ = sum(cut for _, cut in rows)
        return self

    def predict_proba(self, X: Iterable[str]) -> np.ndarray:
        """(N, K), in the order of classes_; each row sums to 1."""
        check_is_fitted(self)
        encode, room = _encoder(self.model_, self.vocabulary_), self._room(self.model_, self.vocabulary_)
        rows = [encode(text, room)[0] for text in _texts(X)]
        logits = last_logits(self.model_, rows, self.label_ids_).astype(np.float64)
        weights = np.exp(logits - logits.max(axis=1, keepdims=True))
        return weights / weights.sum(axis=1, keepdims=True)

    def predict(self, X: Iterable[str]) -> np.ndarray:
        """The likeliest class of each text (N,)."""
        check_is_fitted(self)
        return self.classes_[np.argmax(self.predict_proba(X), axis=1)]

    def _check_settings(self) -> None:
        where = "TextClassifier"
        for name in ("n_layer", "n_head", "d_model", "max_features", "epochs", "batch_size"):
            checks.integer(where, name, getattr(self, name), low=1)
        checks.integer(where, "max_length", self.max_length, low=0)
        checks.real(where, "warmup", self.warmup, low=0, high=1)

    def _start(self, texts: Sequence[str], classes: np.ndarray, seed: int) -> tuple[Model, Any, np.ndarray]:
        """The model before its training, its words (None with a folder), and the token of each class."""
        if self.folder is not None:
            model = Model.of(read(self.folder, halves="float32"))
            if model.tokenizer is None:
                raise ValueError(f"TextClassifier: {self.folder} holds no tokenizer, so no text can be read for it")
            return model, None, _label_tokens(model.tokenizer, classes)
        counted = Counter(word for text in texts for word in _WORD.findall(text.lower()))
        words = sorted(counted, key=lambda word: (-counted[word], word))[: self.max_features]
        vocabulary = {word: id for id, word in enumerate(words, _END + 1)}
        label_ids = np.arange(len(classes)) + _END + 1 + len(words)
        longest = max(len(_WORD.findall(text)) for text in texts)
        context = max(1, min(longest, self.max_length) if self.max_length else longest) + 1
        shape = {"n_layer": self.n_layer, "n_head": self.n_head, "d_model": self.d_model, "dropout": self.dropout}
        config = ModelConfig(int(label_ids[-1]) + 1, context, **shape)
        return Model(config, seed=seed), vocabulary, label_ids

    def _room(self, model: Model, vocabulary: Any) -> int:
        """Tokens of a text that are read."""
        behind = 1 if vocabulary is not None else len(model.tokenizer.encode(_PROMPT))
        room = model.config.context_length - behind
        return min(room, self.max_length) if self.max_length else room

    def __sklearn_tags__(self) -> Any:
        tags = super().__sklearn_tags__()
        tags.input_tags.string, tags.input_tags.two_d_array = True, False
        return tags


class _Rows:
    """Batches of texts (ids, targets), filled up behind their ends, in an order that seed and epoch decide."""

    def __init__(self, rows: Sequence[np.ndarray], answers: np.ndarray, batch_size: int, seed: int):
        self._rows, self._answers, self._size, self._seed = rows, answers, min(batch_size, len(rows)), seed

    def __len__(self) -> int:
        return -(-len(self._rows) // self._size)

    def batch(self, step: int, micro: int) -> tuple[np.ndarray, np.ndarray]:
        epoch, at = divmod(step, len(self))
        order = np.random.default_rng([self._seed, epoch]).permutation(len(self._rows))
        chosen = order[at * self._size : (at + 1) * self._size]
        length = max(len(self._rows[i]) for i in chosen)
        ids = np.zeros((len(chosen), length), np.int64)
        targets = np.full((len(chosen), length), IGNORE, np.int64)
        for row, i in enumerate(chosen):
            end = len(self._rows[i])
            ids[row, :end], targets[row, end - 1] = self._rows[i], self._answers[i]
        return ids, targets


def _encoder(model: Model, vocabulary: Any) -> Callable[[str, int], tuple[np.ndarray, bool]]:
    """A function of a text and the tokens that are read of it: its ids with the end, and whether it was longer."""
    end = [_END] if vocabulary is not None else list(model.tokenizer.encode(_PROMPT))

    def encode(text: str, room: int) -> tuple[np.ndarray, bool]:
        if vocabulary is None:
            ids = list(model.tokenizer.encode(text))
        else:
            ids = [vocabulary.get(word, _UNKNOWN) for word in _WORD.findall(text.lower())]
        return np.array(ids[:room] + end, np.int64), len(ids) > room

    return encode


def _label_tokens(tokenizer: Any, classes: np.ndarray) -> np.ndarray:
    """Of each class the first token of its name behind a blank, where these differ; else of its number, and where those
    do not either, the first ids of the vocabulary."""
    for names in ([f" {each}" for each in classes], [f" {i}" for i in range(len(classes))]):
        tokens = [list(tokenizer.encode(name))[:1] for name in names]
        if all(tokens) and len({token for (token,) in tokens}) == len(classes):
            return np.array([token for (token,) in tokens])
    if len(classes) > tokenizer.vocab_size:
        raise ValueError(
            f"TextClassifier: {len(classes)} classes are more than the {tokenizer.vocab_size} tokens of the folder"
        )
    return np.arange(len(classes))


def _texts(X: Any) -> list[str]:
    if isinstance(X, str | bytes):
        raise ValueError("TextClassifier: X must be a sequence of texts, got one text; put it in a list")
    if getattr(X, "ndim", 1) != 1:
        raise ValueError(f"TextClassifier: X must be a sequence of texts (N,), got an array of shape {X.shape}")
    if not isinstance(X, Iterable):
        raise TypeError(f"TextClassifier: X must be a sequence of texts, got {checks.shown(X)}")
    texts = list(X)
    for at, text in enumerate(texts):
        if not isinstance(text, str):
            raise TypeError(f"TextClassifier: X[{at}] must be a text, got {checks.shown(text)}")
    return [str(text) for text in texts]


def _labels(y: Any) -> np.ndarray:
    labels = np.asarray(y if hasattr(y, "__array__") else list(y))
    if labels.ndim != 1:
        raise ValueError(f"TextClassifier: y must have one class a text (N,), got shape {labels.shape}")
    return labels
