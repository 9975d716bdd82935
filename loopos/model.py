"""The model as people hold it: a decoder-only transformer whose numbers live in the C++ core."""

from __future__ import annotations

import copy
import math
import os
from collections.abc import Callable, Sequence
from typing import Any

import numpy as np

from loopos import _core, checks, hf, saved, storage
from loopos.adapters.adaptable import Adaptable
from loopos.births.birth import find_birth
from loopos.calls import serialised
from loopos.classes import Classes
from loopos.companions import Companions
from loopos.computing import Computing
from loopos.config import ModelConfig
from loopos.errors import NonFiniteError
from loopos.generation.rows import checked_prompts, continue_rows
from loopos.generation.sampling import Sampling, UniformStream
from loopos.generation.stopping import Stops
from loopos.precision import Arithmetic, refuse_training, to_read
from loopos.rope import frequencies
from loopos.trainable import Trainable
from loopos.weights import Weighted, keep_lock

_CLASSES = {"float32": _core.TransformerF32, "float64": _core.TransformerF64}
_MAX_SEED = 2**64 - 1


class Model(Trainable, Weighted, Computing, Classes, Companions, Adaptable):
    """A decoder-only transformer described by a :class:`ModelConfig`.

    seed: of the initial weights (normal 0.02, residual outputs 0.02 / sqrt(2 n_layer), biases 0, norm weights 1); the
    same seed gives the same bits everywhere, and a float64 model starts from the same float32 numbers.
    dtype: "float32" or "float64". weights: None (the dtype), or a storage of fewer bytes, see :attr:`weights`.
    precision: of the products of float32 arithmetic, see :attr:`precision`; None: the environment variable
    LOOPOS_PRECISION, or "float32". A model that does not fit in memory is refused with MemoryError, in bytes, before
    anything is allocated. Calls from several threads on one model are done one after another.
    """

    def __init__(
        self,
        config: ModelConfig,
        *,
        seed: int = 0,
        dtype: str = "float32",
        weights: str | None = None,
        precision: str | None = None,
    ):
        if not isinstance(config, ModelConfig):
            raise TypeError(f"Model: config must be a ModelConfig, got {checks.shown(config)}")
        arithmetic = Arithmetic.of("Model", dtype, weights, precision)
        self._build(config, arithmetic, checks.integer("Model", "seed", seed, low=0, high=_MAX_SEED))

    def _build(self, config: ModelConfig, arithmetic: Arithmetic, seed: int | None) -> None:
        """seed None: the weights are not initialised, and the caller writes all of them."""
        storage.refuse_oversized(config, arithmetic)
        self._config = config
        keep_lock(self)
        self._training = False  # inside loopos.train
        self._core = _CLASSES[arithmetic.dtype](for_core(config) | {"weights": arithmetic.kind}, seed)
        self._compute_in(arithmetic)

    @property
    def config(self) -> ModelConfig:
        return self._config

    @property
    def weights(self) -> str:
        """What the matrices of products and the token table are stored as: the dtype, or "bfloat16", "int8", "int4" or
        "int4-symmetric" (docs/models.md), which are frozen: then parameters() has norms and biases alone, and only
        adapters can be trained. Arithmetic stays float32."""
        return self.arithmetic.weights

    @serialised
    def storage_errors(self) -> dict[str, dict[str, Any]]:
        """How far the weights that are stored small are from those that were given, by name: {"storage", "bytes",
        "largest": of |stored - given|, "relative": root of sum (stored - given)^2 / sum given^2}."""
        return storage.errors(self._core)

    def __repr__(self) -> str:
        stored = "" if self.arithmetic.kind is None else f", weights={self.weights!r}"
        return f"Model({self._config}, dtype={self.dtype!r}{stored}{self._in_words()})"

    # Computing

    @serialised
    def forward(self, ids: np.ndarray, *, documents: np.ndarray | None = None) -> np.ndarray:
        """Logits (B, T, V) of ids (B, T), int32 or int64, 1 <= T <= context_length. Dropout never acts here.

        documents: None, or integers (B, T) that never fall along a row (ValueError): a run of equal numbers is a
        document. A token sees its own document alone, and positions begin at 0 in each, so that several documents in
        one row give what each gives in a row of its own.
        """
        return self._core.forward(ids, documents)

    @serialised
    def loss(self, ids: np.ndarray, targets: np.ndarray, *, documents: np.ndarray | None = None) -> float:
        """Mean cross-entropy in nats over the targets that are not -100; 0.0 when there is none.

        ids, targets: (B, T). Position t is scored against ``targets[b, t]``: nothing is shifted here. documents: as in
        :meth:`forward`.
        """
        total, count = self._core.loss(ids, targets, documents=documents)
        return total / count if count else 0.0

    @serialised
    def losses(self, ids: np.ndarray, targets: np.ndarray, *, documents: np.ndarray | None = None) -> np.ndarray:
        """The cross-entropy in nats of each position, float64 (B, T): minus the log-probability of its target; 0 where
        that is -100. ids, targets, documents as in :meth:`loss`; logits are held for a tile of positions at a time."""
        return self._core.losses(ids, targets, documents=documents)

    @serialised
    def loss_and_grads(
        self,
        ids: np.ndarray,
        targets: np.ndarray,
        *,
        ignore_index: int = -100,
        documents: np.ndarray | None = None,
        loss: Callable[[np.ndarray], tuple[float, np.ndarray]] | None = None,
        of: str = "logits",
    ) -> tuple[float, dict[str, np.ndarray]]:
        """The loss as in :meth:`loss` and its gradient for every trainable parameter, as fresh arrays.

        loss: another one, a function of what the batch gave, called once: ``loss(outputs) -> (value, doutputs)``. of:
        what its outputs are, "hidden" states (B, T, C), "logits" (B, T, V), or the "losses" (B, T, float64) of targets
        that count; doutputs has their shape and dtype. It must not call this model.

        NonFiniteError when the loss, an activation or a gradient is NaN or infinite; its ``birth`` says where it arose.
        documents: as in :meth:`forward`.
        """
        refuse_training("Model.loss_and_grads", self)
        ignore_index = checks.integer(
            "Model.loss_and_grads", "ignore_index", ignore_index, low=-(2**63), high=2**63 - 1
        )
        count = int(np.count_nonzero(np.asarray(targets) != ignore_index))
        scale = 1.0 / max(1, count)
        keywords: dict[str, Any] = {"scale": scale, "ignore_index": ignore_index, "documents": documents}
        if loss is not None:
            keywords["between"] = of, loss
        total, _, healthy = self._core.accumulate(ids, targets, **keywords)
        value, norm = total * (scale if loss is None else 1.0), self._core.grad_norm()
        if not (healthy and math.isfinite(value) and math.isfinite(norm)):
            raised = {0: self._core.raised()}
            birth = find_birth(self._core, [(ids, targets, keywords)], loss=value, norm=norm, step=None, raised=raised)
            if birth is not None:
                raise NonFiniteError(birth)
        return value, {name: grad.copy() for name, grad in self._core.gradients().items()}

    @serialised
    def generate(
        self,
        ids: np.ndarray | Sequence[np.ndarray],
        max_new_tokens: int,
        *,
        temperature: float = 1.0,
        top_k: int | None = None,
        top_p: float | None = None,
        seed: int = 0,
        min_p: float | None = None,
        repetition_penalty: float = 1.0,
        stop: Any = None,
        eos: Any = None,
    ) -> Any:
        """Continues each row of ids (B, T) by max_new_tokens tokens; (B, T + max_new_tokens) in the dtype of ids. A
        list of 1-D arrays, of unequal length perhaps, gives a list of such. T + max_new_tokens may not exceed
        context_length. One seed gives one text.

        temperature 0 is greedy (ties go to the lowest id); top_k keeps the k most likely tokens, top_p then the fewest
        whose probabilities reach p, min_p then those at least min_p times as likely as the first; repetition_penalty
        acts before them all, on greedy choice too (:class:`loopos.generation.Sampling`).

        eos: an id or several that end a row. stop: a string, a sequence of ids, or a list of such; strings are looked
        for in the text of the new tokens with :attr:`tokenizer`. A row that ended is filled with the first of eos, or
        else with its last token, and the array ends with the last row; in a list each ends on its own.
        """
        where, config = "Model.generate", self._config
        self.refuse_classes(where)
        new = checks.integer(where, "max_new_tokens", max_new_tokens, low=0)
        cuts = {"temperature": temperature, "top_k": top_k, "top_p": top_p, "min_p": min_p}
        sampling = Sampling.checked(where, **cuts, repetition_penalty=repetition_penalty)
        stream = UniformStream.checked(where, seed)
        prompts = checked_prompts(where, ids, new, config.vocab_size, config.context_length)
        tokenizer = self.tokenizer if stop is not None else None
        stops = Stops.checked(where, stop, eos, vocab_size=config.vocab_size, tokenizer=tokenizer)
        tokens, own = continue_rows(self._core, prompts, new, sampling, stops, stream, tokenizer)
        if isinstance(ids, np.ndarray):
            return np.concatenate([ids, tokens.astype(ids.dtype)], axis=1)
        return [np.append(row, more[:n].astype(row.dtype)) for row, more, n in zip(ids, tokens, own, strict=True)]

    @serialised
    def hidden(self, ids: np.ndarray, *, documents: np.ndarray | None = None) -> np.ndarray:
        """What the head is given, (B, T, C): the result of the final norm. ids, documents: as in :meth:`forward`."""
        return self._core.hidden(ids, documents)

    def _weights_changed(self) -> None:
        if self.adapter is not None:
            self._core.adapter_enabled(True)  # what it knows of the weights is no longer so
        super()._weights_changed()

    # Files

    @classmethod
    def from_pretrained(
        cls,
        folder: str | os.PathLike[str],
        *,
        dtype: str | None = None,
        weights: str | None = None,
        base: str | os.PathLike[str] | None = None,
        precision: str | None = None,
    ) -> Model:
        """A model from a Hugging Face folder (config.json and safetensors, one file or several), from the folder of a
        run of loopos.train (its newest sound checkpoint), from one checkpoint, or from an adapter's folder (PEFT's).

        dtype None keeps the file's F32 or F64; F16 and BF16 need ``dtype=`` or ``weights=``. weights: "float32",
        "bfloat16", "int8" or "int4" (:attr:`weights`): each tensor becomes that as it is read. base: of an
        adapter or a run that trained one, the folder of the model that it stands on, if that is not where it was.
        precision: as of Model, whatever the run computed in.
        Settings that are not supported raise ValueError naming them, malformed files CheckpointError.
        """
        found = saved.read(folder, to_read("from_pretrained", dtype, weights, precision), base)
        model = cls.of(found, weights, precision)
        vars(model._config)["_loaded_from"] = os.fspath(folder)  # by which the doctor knows that weights were meant
        return model

    @classmethod
    def of(cls, found: saved.Saved, weights: str | None = None, precision: str | None = None) -> Model:
        """The model that :func:`loopos.saved.read` found, with its matrices stored as ``weights``; None: as those of
        the run that trained an adapter on it. precision: as of Model."""
        if weights is None:
            weights = found.weights
        model = cls.__new__(cls)
        model._build(found.config, Arithmetic.of("from_pretrained", found.dtype, weights, precision), None)
        if isinstance(found.arrays, hf.Weights):  # one after another, so that the model is in memory once
            storage.fill_all(model._core, found.arrays)
        else:
            model.load_state_dict(storage.fill_from(model._core, found.arrays))
        model.accompany(found.source, found.state.get("tokenizer"), found.state.get("record"))
        model._folder = None if found.folder is None else os.path.abspath(found.folder)
        if found.adapter is not None:
            model.adapt_as(found.adapter)
        return model

    @serialised
    def save_pretrained(self, folder: str | os.PathLike[str]) -> None:
        """Writes a folder that transformers opens with nothing missing; atomic. Of a model that came from a Hugging
        Face folder, its tokenizer, chat template, generation_config.json and special tokens go along; of one that
        loopos.train trained, a model card (README.md), which never replaces one that a person wrote. ValueError names
        the field that keeps a configuration from being of a family of theirs. Of bfloat16 weights the file is BF16,
        or F32 where a norm or bias has digits that BF16 lacks, exact in either case; fewer bits are refused: what
        they left out would be missing from the folder. So is a model with an adapter: merge_adapter() first, or
        save_adapter(folder)."""
        self.refuse_adapter("save_pretrained")
        arrays = storage.for_folder("save_pretrained", self._core, self.arithmetic)
        hf.write_pretrained(folder, self._config, arrays, self.source, self.record)

    # Copies: copy.copy, copy.deepcopy and pickle all give a model that shares nothing with this one

    @serialised
    def __getstate__(self) -> dict[str, Any]:
        own = {name: value for name, value in vars(self).items() if name not in ("_core", "lock")}
        own["_record"] = self.record
        return {
            "weights": self.state_dict(),
            "small": storage.state(self._core),
            "frozen": list(self.parameters(trainable=False)),
            "own": own,
        }

    def __deepcopy__(self, memo: dict[int, Any]) -> Model:
        state = self.__getstate__()  # its weights are copies already
        memo[id(self)] = twin = type(self).__new__(type(self))
        twin.__setstate__(state | {"own": copy.deepcopy(state["own"], memo)})
        return twin

    def __setstate__(self, state: dict[str, Any]) -> None:
        own, weights = state["own"], state["weights"]
        self._build(own["_config"], own["arithmetic"], None)
        vars(self).update(own | {"_training": False})
        self.put_on_again()
        self.load_state_dict(weights)
        self._record = own.get("_record")
        storage.put_back(self._core, state.get("small", {}))
        self._freeze_alone(state["frozen"])


def for_core(config: ModelConfig) -> dict[str, Any]:
    """What ``config_from`` in bindings/model_config.cpp reads; "layers" says what layers differ in."""
    turns = frequencies(config) if config.position == "rope" else {}
    layers = []
    for i in range(config.n_layer):
        kind = config.layer_type(i)
        turned, factor = turns[kind] if config.has_rope(i) else ((), 1.0)
        window = config.sliding_window if kind == "sliding" else 0
        layers.append({"window": window, "frequencies": turned, "rope_factor": factor})
    sizes = {"head_width": config.head_width, "num_labels": config.num_labels}
    return config.to_dict() | sizes | {"layers": layers}
