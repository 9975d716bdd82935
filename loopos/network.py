"""What models beside the transformer share: a model of the core, its weights, gradients and files."""

from __future__ import annotations

import copy
import math
import os
from abc import abstractmethod
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import numpy as np

from . import _core, checks
from .births.birth import find_birth
from .calls import serialised
from .computing import Computing
from .errors import CheckpointError, NonFiniteError
from .files import durable
from .files.checkpoint_folder import Checkpoint
from .files.run_folder import holds_checkpoint, load_checkpoint
from .files.tensorfile import parse_safetensors, stream_safetensors
from .hf.folder import replace_together
from .precision import Arithmetic
from .trainable import Trainable
from .weights import Weighted, keep_lock

SETTINGS, WEIGHTS = "config.json", "model.safetensors"
MAX_SETTINGS_BYTES = 1 << 20


class Network(Trainable, Weighted, Computing):
    """A kind has ``_config_type``, whose ``num_parameters``, ``to_dict`` and ``from_dict`` are asked for, and
    ``_make_core``."""

    _config_type: Any
    adapter = None  # as of a Model: loopos.optim and loopos.run ask
    adapter_config = None
    source = None  # it comes with no other files

    def __init__(self, config: Any, *, seed: int = 0, dtype: str = "float32", precision: str | None = None):
        where = type(self).__name__
        if not isinstance(config, self._config_type):
            raise TypeError(f"{where}: config must be a {self._config_type.__name__}, got {checks.shown(config)}")
        arithmetic = Arithmetic.of(where, dtype, None, precision)
        self._build(config, arithmetic, checks.integer(where, "seed", seed, low=0, high=2**64 - 1))

    def _build(self, config: Any, arithmetic: Arithmetic, seed: int | None) -> None:
        self._config = config
        number = np.dtype(arithmetic.dtype).itemsize
        size, available = 2 * number * config.num_parameters(), _core.available_bytes()
        if size > available:
            raise MemoryError(
                f"{type(self).__name__}: weights and gradients of this configuration take {size} bytes, and "
                f"{available:.0f} bytes are available"
            )
        keep_lock(self)
        self._training = False
        self._core = self._make_core(arithmetic.dtype, seed)
        self._compute_in(arithmetic)

    @abstractmethod
    def _make_core(self, dtype: str, seed: int | None) -> Any:
        """The core's model of the configuration. seed None: its weights are still to be written."""

    @property
    def config(self) -> Any:
        return self._config

    @property
    def record(self) -> dict[str, Any] | None:
        """What loopos.train did to the weights, in plain numbers; None where it did nothing."""
        return self._record.to_dict() if hasattr(self._record, "to_dict") else self._record

    def inherit(self, run: Path) -> None:
        """Of the folder of a run: nothing."""

    def __repr__(self) -> str:
        return f"{type(self).__name__}({self._config}, dtype={self.dtype!r}{self._in_words()})"

    def adapter_parameters(self) -> dict[str, np.ndarray]:
        """None: it has no adapter."""
        return {}

    def _loss_and_grads(self, inputs: tuple, keywords: dict[str, Any]) -> tuple[float, dict[str, np.ndarray]]:
        """inputs: the first, and the targets."""
        count = int(np.count_nonzero(np.asarray(inputs[1]) != -100))
        keywords = {"scale": 1.0 / max(1, count), **keywords}
        total, _, healthy = self._core.accumulate(*inputs, **keywords)
        value, norm = total * keywords["scale"], self._core.grad_norm()
        if not (healthy and math.isfinite(value) and math.isfinite(norm)):
            raised = {0: self._core.raised()}
            birth = find_birth(self._core, [(*inputs, keywords)], loss=value, norm=norm, step=None, raised=raised)
            if birth is not None:
                raise NonFiniteError(birth)
        return value, {name: grad.copy() for name, grad in self._core.gradients().items()}

    # Files

    @serialised
    def save(self, folder: str | os.PathLike[str]) -> None:
        """Writes config.json and model.safetensors, which :meth:`load` opens; each is replaced whole or not at all."""
        folder = Path(folder)
        settings = {"loopos": type(self).__name__, **self._config.to_dict()}
        tensors = {name: (view.shape, view) for name, view in self.parameters().items()}
        durable.make_folder(folder)
        contents = {
            SETTINGS: durable.dump_json(settings, indent=2) + b"\n",
            WEIGHTS: stream_safetensors(tensors, {"format": "loopos"}),
        }
        replace_together(folder, contents)

    @classmethod
    def load(cls, folder: str | os.PathLike[str], *, precision: str | None = None) -> Any:
        """The model that :meth:`save` wrote, of its dtype; or that of a run of loopos.train (its newest sound
        checkpoint), or of one checkpoint. precision: as of the constructor. CheckpointError for a file that is
        malformed."""
        if (found := cls._of_run(folder, precision)) is not None:
            return found[0]
        path = Path(folder) / SETTINGS
        settings = durable.load_json(path, MAX_SETTINGS_BYTES)
        if not isinstance(settings, Mapping) or settings.get("loopos") != cls.__name__:
            raise CheckpointError(path, f"expected what {cls.__name__}.save wrote")
        try:
            config = cls._config_type.from_dict({k: v for k, v in settings.items() if k != "loopos"})
        except (TypeError, ValueError) as error:
            raise CheckpointError(path, str(error)) from error
        weights = Path(folder) / WEIGHTS
        tensors, _ = parse_safetensors(durable.read_bytes(weights), weights)
        arrays = {name: np.asarray(tensor.array) for name, tensor in tensors.items()}
        return cls._of(config, arrays, weights, precision)

    @classmethod
    def _of_run(cls, folder: str | os.PathLike[str], precision: str | None) -> tuple[Any, Checkpoint] | None:
        """The model of a run and its checkpoint; None for a folder that is no run."""
        if (Path(folder) / SETTINGS).is_file() or not holds_checkpoint(folder):
            return None
        checkpoint = load_checkpoint(folder)
        try:
            config = cls._config_type.from_dict(checkpoint.state["config"])
        except (KeyError, TypeError, ValueError) as error:
            raise CheckpointError(checkpoint.path, f"it is not of a run of {cls.__name__}: {error}") from None
        model = cls._of(config, checkpoint.weights, checkpoint.path, precision)
        model._record = checkpoint.state.get("record")
        return model, checkpoint

    @classmethod
    def _of(cls, config: Any, arrays: Mapping[str, np.ndarray], path: Path, precision: str | None) -> Any:
        dtypes = sorted({str(array.dtype) for array in arrays.values()})
        if len(dtypes) != 1:
            raise CheckpointError(path, f"expected tensors of one dtype, got {dtypes}")
        model = cls.__new__(cls)
        model._build(config, Arithmetic.of(cls.__name__, dtypes[0], None, precision), None)
        try:
            model.load_state_dict(arrays)
        except ValueError as error:
            raise CheckpointError(path, str(error)) from error
        return model

    # Copies share nothing with this one

    @serialised
    def __getstate__(self) -> dict[str, Any]:
        return {
            "config": self._config,
            "arithmetic": self.arithmetic,
            "weights": self.state_dict(),
            "frozen": list(self.parameters(trainable=False)),
        }

    def __setstate__(self, state: dict[str, Any]) -> None:
        self._build(state["config"], state["arithmetic"], None)
        self.load_state_dict(state["weights"])
        self._freeze_alone(state["frozen"])

    def __deepcopy__(self, memo: dict[int, Any]) -> Any:
        memo[id(self)] = twin = type(self).__new__(type(self))
        twin.__setstate__(copy.copy(self.__getstate__()))
        return twin
