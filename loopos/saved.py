"""Folders out of which a model comes: of Hugging Face, of an adapter, of a run, or one checkpoint."""

from __future__ import annotations

import os
from collections.abc import Mapping
from pathlib import Path
from typing import Any, NamedTuple

import numpy as np

from loopos import hf
from loopos.adapters.alone import Alone, alone
from loopos.adapters.kept import Kept, kept
from loopos.config import ModelConfig
from loopos.data.tokenizer import tokenizer_from_dict
from loopos.errors import CheckpointError
from loopos.files.run_folder import holds_checkpoint, load_checkpoint
from loopos.hf.tensors import cast
from loopos.precision import check_read, small


class Saved(NamedTuple):
    """arrays: the weights by name, all of one dtype; of a Hugging Face folder each is read when it is asked for.
    source: of the Hugging Face folder that it comes from, also by way of a run. step and state: of a run; None and
    empty for a Hugging Face folder. folder: where the weights are. adapter: of a run that trained one, or of a folder
    that holds nothing else; config, arrays and folder are then those of its base."""

    config: ModelConfig
    arrays: Mapping[str, np.ndarray]
    source: hf.Source | None = None
    step: int | None = None
    state: Mapping[str, Any] = {}
    folder: Path | None = None
    adapter: Kept | Alone | None = None

    def tokenizer(self) -> Any:
        """The tokenizer that goes with the model: of the run, or of its folder's tokenizer.json; None when there is
        none, or an object that no file can carry. CheckpointError when a run's is not there or is another one."""
        return tokenizer_of(self.state.get("tokenizer"), self.source)

    @property
    def dtype(self) -> str:
        return self.arrays.dtype if isinstance(self.arrays, hf.Weights) else str(next(iter(self.arrays.values())).dtype)

    @property
    def weights(self) -> str | None:
        """As what the run that trained the adapter held the matrices of its base; None: in full, or not known."""
        return small(self.adapter.base.weights) if isinstance(self.adapter, Kept) else None


def tokenizer_of(about: Any, source: hf.Source | None) -> Any:
    """What Saved.tokenizer gives. about: what state.json says of a run's tokenizer, or None; source: of the model."""
    kind = about.get("kind") if isinstance(about, Mapping) else None
    if kind in ("bytes", "chars"):
        return tokenizer_from_dict(about)
    if kind == "custom":
        return None
    found = None if source is None else source.tokenizer()
    if found is not None and kind == "hf" and found.sha256 != about.get("sha256"):
        raise CheckpointError(found.path, "not the tokenizer that this run was trained with any more")
    return found


def read(
    folder: str | os.PathLike,
    dtype: str | None = None,
    base: str | os.PathLike | None = None,
    *,
    halves: str | None = None,
) -> Saved:
    """The model in ``folder``: that of its config.json where there is one, else of the checkpoint that the folder is,
    or of the newest sound one of a run's folder. Of a folder that holds an adapter alone, the model it stands on, and
    it. base: the folder of the model that an adapter stands on, where it is not the one that was recorded.

    dtype, and what is raised: as of :func:`loopos.hf.open_pretrained`; ValueError for a base that the folder does not
    need, FileNotFoundError for one that is not there. halves: where dtype is None, what F16 and BF16 become (exactly);
    None: they are refused. Takes no lock and writes nothing."""
    folder = Path(folder)
    if (found := alone(folder)) is not None and not holds_checkpoint(folder):
        place = found.place(base)
        if alone(place) is not None:
            raise ValueError(f"from_pretrained: the base of an adapter is a whole model, and {place} is an adapter")
        return read(place, dtype, halves=halves)._replace(adapter=found)
    if hf.is_pretrained(folder) or not holds_checkpoint(folder):
        _refuse_base(folder, base)
        try:
            return Saved(*hf.open_pretrained(folder, dtype), folder=folder)
        except hf.HalfPrecision:
            if halves is None:
                raise
            return Saved(*hf.open_pretrained(folder, halves), folder=folder)
    check_read("from_pretrained", dtype)
    checkpoint = load_checkpoint(folder)
    _refuse_pictures(folder, checkpoint.state.get("config"))
    try:
        config = ModelConfig.from_dict(checkpoint.state["config"])
        kept_dtype = checkpoint.state["dtype"]
    except (KeyError, TypeError) as error:
        raise CheckpointError(checkpoint.path, f"state.json is not of a run of loopos.train: {error}") from None
    if (adapter := kept(checkpoint)) is not None:
        below = read(adapter.place(checkpoint.path, base), dtype or kept_dtype)
        own = hf.Source.kept(checkpoint.path.parent) or below.source
        return below._replace(source=own, step=checkpoint.step, state=checkpoint.state, adapter=adapter)
    _refuse_base(folder, base)
    arrays = checkpoint.weights
    if dtype not in (None, kept_dtype):
        arrays = {name: cast(checkpoint.path, name, array, dtype) for name, array in arrays.items()}
    source = hf.Source.kept(checkpoint.path.parent)
    return Saved(config, arrays, source, checkpoint.step, checkpoint.state, folder)


def _refuse_pictures(folder: Path, config: Any) -> None:
    asks = "and loopos caption --predict asks a captioner"
    of = {
        "encoder": ("a Captioner", "vision", asks),
        "patch_size": ("an ImageEncoder", "vision", asks),
        "elements": ("a CovarianceNetwork", "covariance", "and loopos covariance eval asks it"),
    }
    if found := [kind for name, kind in of.items() if isinstance(config, Mapping) and name in config]:
        kind, room, how = found[0]
        raise ValueError(
            f"from_pretrained: {folder} is a run of {kind} and no language model; "
            f"loopos.{room}.{kind.split()[-1]}.load opens it, {how}"
        )


def _refuse_base(folder: Path, base: Any) -> None:
    if base is not None:
        raise ValueError(f"from_pretrained: {folder} is a whole model and no adapter, so it takes no base")
