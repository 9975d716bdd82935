"""What a checkpoint of a run contains, and how a run goes on from one.

The batch of a step, its dropout and its learning rate are functions of the step number, so the arrays, the optimizer's
numbers and the count of refused updates are the whole state.
"""

from __future__ import annotations

import os
import uuid
import warnings
from collections.abc import Callable, Mapping
from dataclasses import dataclass, fields
from pathlib import Path
from typing import Any

import numpy as np

from loopos import checks
from loopos.adapters.alone import alone
from loopos.adapters.base import Base
from loopos.adapters.kept import ADAPTER, BASE, described, kept
from loopos.data.tokenizer import tokenizer_to_dict
from loopos.errors import CheckpointError

from .checkpoint import RUN, Checkpoint, CheckpointStore, load_checkpoint
from .computed import Computed
from .metrics import BITS, DOCTOR, METRICS, set_aside
from .policy import Policy, SavedPolicy
from .settings import TrainSettings

AUTO = "auto"
MUST_AGREE = ("batch_size", "grad_accum", "seed", "optimizer", "moments", "shards")
SHOULD_AGREE = ("weight_decay", "betas", "eps", "max_grad_norm", "label_smoothing")  # may differ, but hardly on purpose
SHOULD_AGREE += ("task", "dpo_beta", "teacher", "distill", "regularization_lambda")
_DEFAULTS = {each.name: each.default for each in fields(TrainSettings)}  # of runs before a setting came
_OPTIMIZER, _SNAPSHOT = "optimizer.", "optimizer.snapshot."  # the store files both beside the weights, not among them


@dataclass(frozen=True)
class Identity:
    """What makes two runs the same run: all that must agree between a checkpoint and the run that continues it."""

    config: Any
    settings: TrainSettings
    seq_len: int
    data: Mapping[str, Any]  # the fingerprint of the training data
    tokenizer: Any
    adapter: Any = None  # what is trained beside a frozen base

    def to_dict(self) -> dict[str, Any]:
        """Safe for JSON."""
        return {
            "config": self.config.to_dict(),
            "settings": self.settings.to_dict() | {"seq_len": self.seq_len},
            "data": dict(self.data),
            "tokenizer": _described(self.tokenizer),
            **({} if self.adapter is None else {ADAPTER: described(self.adapter)}),
        }

    def check(self, checkpoint: Checkpoint) -> None:
        """ValueError naming every value that is another one in the checkpoint."""
        here, there = self.to_dict(), checkpoint.state
        config = type(self.config).from_dict(there["config"]).to_dict()  # with the fields that came after it was saved
        pairs = [(f"the model's {key}", value, config[key]) for key, value in here["config"].items()]
        then = _DEFAULTS | there["settings"]  # with the settings that came after it was saved
        pairs += [(key, here["settings"][key], then.get(key)) for key in (*MUST_AGREE, "seq_len")]
        parts = [key for key in here["data"] if key != "sha256"]
        pairs += [(f"the data's {key}", here["data"].get(key), there["data"].get(key)) for key in parts]
        if here["tokenizer"] is not None and there["tokenizer"] is not None:
            pairs.append(("the tokenizer", here["tokenizer"], there["tokenizer"]))
        pairs.append(("the adapter", here.get(ADAPTER), there.get(ADAPTER)))
        differing = [
            f"{name}: {checks.shown(a)} here, {checks.shown(b)} in the checkpoint" for name, a, b in pairs if a != b
        ]
        if differing:
            raise ValueError(
                f"train: this is not the run that {checkpoint.path} was saved from; {'; '.join(differing)}. "
                "Give the same values, or start a new run in another output_dir"
            )
        for name in SHOULD_AGREE:
            ours, theirs = here["settings"][name], then[name]
            if ours != theirs:
                warnings.warn(
                    f"train: {name} is {checks.shown(ours)} here, {checks.shown(theirs)} in {checkpoint.path}; the run "
                    "goes on with the new value, and is no longer the one that would have come without a stop",
                    stacklevel=3,
                )
        if here["data"].get("sha256") != there["data"].get("sha256"):
            warnings.warn(
                f"train: the data have the length of those {checkpoint.path} was trained on but not their content; the "
                "run goes on with the new ones",
                stacklevel=3,
            )


def _described(reads: Any) -> dict[str, Any] | None:
    """A tokenizer, or a vocabulary of captions, whose module is loaded only where there is one."""
    captions = any(each.__module__ == "loopos.vision.data.vocabulary" for each in type(reads).__mro__)
    return reads.to_dict() if captions else tokenizer_to_dict(reads)


def find(resume: Any, latest: Callable[[], Checkpoint | None]) -> Checkpoint | None:
    """The checkpoint to go on from: None for resume=None, and for "auto" (the ``latest``) when there is none yet. Its
    state has every part that :func:`save` writes."""
    if resume is None:
        return None
    auto = isinstance(resume, str) and resume == AUTO
    checkpoint = latest() if auto else load_checkpoint(resume)
    parts = {"config": dict, "dtype": str, "settings": dict, "data": dict, "numbers": dict, "policy": dict, "isa": str}
    for name, kind in parts.items() if checkpoint is not None else ():
        if not isinstance(checkpoint.state.get(name), kind):
            raise CheckpointError(checkpoint.path, f"state.json has no {name}: it is not of a run of loopos.train")
    return checkpoint


def check_argument(resume: Any, output_dir: Any) -> None:
    """Refuse at once what cannot work, before data are read."""
    for name, value in (("output_dir", output_dir), ("resume", resume)):
        if isinstance(value, str) and not value.strip():
            raise ValueError(f"train: {name} must name a folder, got {value!r}; '.' is the one you are in")
    if resume is None:
        return
    if not isinstance(resume, str | os.PathLike):
        raise TypeError(f"train: resume must be None, 'auto' or a folder, got {checks.shown(resume)}")
    if isinstance(resume, str) and resume == AUTO:
        if output_dir is None:
            raise ValueError("train: resume='auto' looks for the newest checkpoint in output_dir, got no output_dir")
    elif not Path(resume).exists():
        raise FileNotFoundError(2, "train: resume: there is no such folder", os.fspath(resume))
    elif (Path(resume) / "config.json").is_file():
        raise ValueError(
            f"train: resume={os.fspath(resume)!r} is a Hugging Face folder, not a run; to start from its weights train "
            "Model.from_pretrained of it (command line: --init)"
        )
    elif alone(Path(resume)) is not None:
        raise ValueError(
            f"train: resume={os.fspath(resume)!r} is an adapter, not a run; to train it further open it with "
            "Model.from_pretrained (command line: --init)"
        )


def begin(store: CheckpointStore, checkpoint: Checkpoint | None) -> str | None:
    """The id of the run: that of the checkpoint it goes on from, else a new one.

    A folder that holds checkpoints of other runs only is a UserWarning, and a log or a doctor's report that
    is not this run's is moved aside."""
    run = uuid.uuid4().hex if checkpoint is None else checkpoint.run
    if run in (held := store.runs()):
        return run
    store.set_best_aside()
    aside, _, _ = (set_aside(store.folder / name) for name in (METRICS, BITS, DOCTOR))
    if held:
        moved = "" if aside is None else f", its log is now {aside.name}"
        warnings.warn(
            f"train: {store.folder} holds checkpoints of another run. They will be replaced by those of this "
            f"one{moved}; to go on with the other run give resume='auto', to keep both give another output_dir",
            stacklevel=3,
        )
    return run


def save(
    write: Callable[[int, Mapping[str, np.ndarray], Mapping[str, Any]], Path],
    step: int,
    identity: Identity,
    run: str | None,
    model: Any,
    optimizer: Any,
    policy: Policy,
    counted: Mapping[str, Any],
    base: Base | None = None,
) -> Path:
    """Write the checkpoint of ``step`` of ``run`` by ``write``, a method of the store, with what was ``counted`` in its
    state; NonFiniteError when a number in it is not finite, OSError when it cannot be. base: of a model with an
    adapter, which alone is written."""
    with model.lock:  # the arrays are the living weights until they are written
        state = optimizer.living_state()
        counts, snapshot = policy.state(step)
        arrays = dict(model.parameters() if base is None else model.adapter_parameters())
        arrays |= {_OPTIMIZER + name: value for name, value in state.items() if isinstance(value, np.ndarray)}
        arrays |= {_SNAPSHOT + name: array for name, array in snapshot.items()}
        numbers = {name: value for name, value in state.items() if not isinstance(value, np.ndarray)}
        about = {"dtype": model.dtype, **Computed.of(model)._asdict(), "numbers": numbers, "policy": counts}
        about |= {"frozen": frozen} if (frozen := _frozen(model)) else {}
        about |= {} if base is None else {BASE: base._asdict()}
        about |= counted
        about |= {} if run is None else {RUN: run}
        return write(step, arrays, identity.to_dict() | about)


def restore(checkpoint: Checkpoint, model: Any, optimizer: Any, base: Base | None = None) -> SavedPolicy:
    """Put the checkpoint's weights, moments and count in place, and return what Policy continues from. A model of
    another dtype, or an adapter on another base: ValueError."""
    if model.dtype != checkpoint.state["dtype"]:
        raise ValueError(
            f"train: the model is {model.dtype}, the checkpoint {checkpoint.path} is {checkpoint.state['dtype']}; "
            "pass a model of that dtype"
        )
    if base is not None and (saved := kept(checkpoint)) is not None:  # base: of a model with an adapter
        saved.check(base, "train")
    ours, theirs = _frozen(model), checkpoint.state.get("frozen", [])
    if ours != theirs:
        raise ValueError(
            f"train: of the model {_named(ours)} frozen, in the checkpoint {checkpoint.path} {_named(theirs)}; pass a "
            "Model and freeze the same parameters, or start a new run in another output_dir"
        )
    for difference in Computed.of(model).from_those(checkpoint):
        warnings.warn(difference, stacklevel=3)
    moments = {n: a for n, a in checkpoint.optimizer.items() if not n.startswith("snapshot.")}
    snapshot = {n[len("snapshot.") :]: a for n, a in checkpoint.optimizer.items() if n.startswith("snapshot.")}
    optimizer.load_state_dict(moments | checkpoint.state["numbers"])
    if model.adapter is None:
        model.load_state_dict(checkpoint.weights)
    else:
        model.fill_adapter(checkpoint.weights)
    return SavedPolicy(checkpoint.state["policy"], snapshot)


def _frozen(model: Any) -> list[str]:
    """Of what the checkpoint holds: under an adapter all of the base is."""
    own = model.adapter_parameters() if model.adapter is not None else model.parameters()
    return [name for name in model.parameters(trainable=False) if name in own]


def _named(names: list[str]) -> str:
    return f"{', '.join(names)} {'is' if len(names) == 1 else 'are'}" if names else "nothing is"
