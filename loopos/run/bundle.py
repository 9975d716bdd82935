"""A bundle: one file with all that one update needs to be done again, bit for bit, and what came of it.

It is a safetensors file: ``weights.<name>``, ``stored.<name>`` (the bytes of what is stored small) and
``moments.<name>`` as they were before the update, ``ids.<m>``, ``targets.<m>`` and, where rows hold several documents,
``documents.<m>`` of its micro-batches (of pictures the parts of their kind, see ``loopos.run.kinds``); its metadata
hold a format version, a JSON text with the rest (configuration,
settings, the learning rate used, the outcome, the build) and a SHA-256 over that text and every tensor. Unlike a
checkpoint it may hold numbers that are not finite: they may be what it is about.
"""

from __future__ import annotations

import contextlib
import dataclasses
import hashlib
import os
import re
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np

from loopos import _core
from loopos.adapters.kept import described, parts_again, spec_of
from loopos.births.growth import Growth
from loopos.build_info import __version__
from loopos.data.batches import Batch
from loopos.errors import Birth, CheckpointError
from loopos.files import durable
from loopos.files.tensorfile import parse_safetensors, read_metadata, serialize_safetensors
from loopos.model import Model

from .kinds import kind_named, kind_of
from .origins import Origins
from .settings import TrainSettings

FORMAT, VERSION = "loopos-bundle", "1"
WATCHED = "loopos-watch-bundle"  # of loopos.watch: another content under a header whose outcome reads the same
FOLDER = "bundles"  # in the output_dir of a run
_NAME = re.compile(r"step-[0-9]{8,}\.safetensors")
_LITTER = re.compile(_NAME.pattern + r"\.tmp\.[0-9]+\.[0-9a-f]+")
_DTYPES = ("float32", "float64")

Batches = Sequence[Batch]


@dataclass(frozen=True)
class Outcome:
    """What came of an update. loss, grad_norm: ``float.hex``, which is every bit of a number ("nan" for each NaN);
    birth: None when it was not refused."""

    loss: str
    grad_norm: str
    valid_tokens: int
    birth: Birth | None

    @staticmethod
    def of(update: Any) -> Outcome:
        loss, norm = float(update.loss).hex(), float(update.grad_norm).hex()
        return Outcome(loss, norm, update.valid_tokens, update.birth)

    def differences(self, other: Outcome) -> tuple[str, ...]:
        """A sentence for each part that is not the same in ``other``, the repetition of this update."""
        pairs = [(f.name, getattr(self, f.name), getattr(other, f.name)) for f in dataclasses.fields(self)]
        return tuple(f"{name} was {a}, now {b}" for name, a, b in pairs if to_plain(_bare(a)) != to_plain(_bare(b)))


@dataclass(frozen=True)
class Bundle:
    """One update. step counts from 1, as in history; learning_rate is the one it used; weights and moments are those
    before it, and ``numbers`` what else the optimizer counts; build: version, instruction set, compiler, threads; run:
    the id of the run, which its checkpoints have too; growth: the state of its record (loopos.births.growth) before the
    update; both None where they are not known; frozen: the names of the parameters that were; origins: from which lines
    of the data the rows came, see loopos.run.origins; adapter: what it is and its parts; its matrices are among the
    weights; storage, stored: of a base that is stored small, as loopos.storage.state gives it."""

    step: int
    config: Any
    dtype: str
    settings: TrainSettings
    learning_rate: float
    weights: Mapping[str, np.ndarray]
    moments: Mapping[str, np.ndarray]
    numbers: Mapping[str, Any]
    batches: Batches
    outcome: Outcome
    build: Mapping[str, Any]
    run: str | None = None
    growth: Mapping[str, Any] | None = None
    frozen: tuple[str, ...] = ()
    origins: Origins = ()
    adapter: Mapping[str, Any] | None = None
    storage: str | None = None
    stored: Mapping[str, Any] = dataclasses.field(default_factory=dict)

    @staticmethod
    def of(
        model: Any,
        optimizer: Any,
        settings: TrainSettings,
        update: Any,
        *,
        step: int,
        learning_rate: float,
        run: str | None = None,
        growth: Growth | None = None,
        origins: Origins = (),
    ) -> Bundle:
        """Of an update that was just refused, so that model and optimizer are as they were before it; the weights are
        the living ones."""
        state = optimizer.state_in_numbers()
        return Bundle(
            step=step,
            config=model.config,
            dtype=model.dtype,
            settings=dataclasses.replace(settings, precision=model.precision),
            learning_rate=float(learning_rate),
            weights=model.parameters(),
            moments={name: value for name, value in state.items() if isinstance(value, np.ndarray)},
            numbers={name: value for name, value in state.items() if not isinstance(value, np.ndarray)},
            batches=update.batches,
            outcome=Outcome.of(update),
            build=build(model.products),
            run=run,
            growth=None if growth is None else growth.state(),
            frozen=tuple(model.parameters(trainable=False)),
            origins=origins,
            adapter=None if model.adapter is None else _adapter(model),
            **kind_of(model).stored(model),
        )

    def model(self, *, dtype: str | None = None, dropout: float | None = None) -> Any:
        """A model of its kind with what is stored small; the weights are still to be loaded. dtype, dropout: in place
        of its own."""
        kind = kind_of(self.config)
        config = self.config if dropout is None else kind.with_dropout(self.config, dropout)
        model = kind.built(config, dtype or self.dtype, self.storage, self.stored)
        if model.dtype == "float32":
            model.precision = self.settings.precision
        if self.adapter is not None:
            spec = spec_of(self.adapter["spec"])
            model.put_on(spec, parts_again(spec, self.adapter["parts"]))
        model._freeze_alone(self.frozen)
        return model


def _adapter(model: Model) -> dict[str, Any]:
    """Parts besides the targets that gave them, which are names that only its Hugging Face folder tells."""
    return {"spec": described(model.adapter), "parts": [part._asdict() for part in model.adapter_parts]}


def build(products: str) -> dict[str, Any]:
    """What this process computes with, and that model's products. All of it but the threads may change bits."""
    facts = {"loopos": __version__, "isa": str(_core.isa()), **_core.build_info(), "products": products}
    return facts | {"threads": _core.get_num_threads()}


# Writing


def keep(run_folder: Path, bundle: Bundle) -> Path:
    """Write ``bundle`` into the bundles of a run, durably and in one step, and return its path. OSError when that
    fails; the bundle of the same step that was there before is then as it was."""
    folder = run_folder / FOLDER
    durable.make_folder(folder)
    for name in os.listdir(folder):
        if _LITTER.fullmatch(name):  # of a process that was killed: this one holds the lock of the run
            with contextlib.suppress(OSError):
                durable.remove(folder / name)
    path = folder / f"step-{bundle.step:08d}.safetensors"
    write_bundle(path, bundle)
    return path


def write_bundle(path: str | os.PathLike, bundle: Bundle) -> None:
    """Write ``bundle`` as the file ``path``, durably and in one step. OSError when that fails."""
    arrays = {f"weights.{name}": array for name, array in bundle.weights.items()}
    arrays |= {f"moments.{name}": array for name, array in bundle.moments.items()}
    arrays |= {f"stored.{name}": numbers for name, (numbers, *_) in bundle.stored.items()}
    parts = kind_of(bundle.config).parts
    for micro, batch in enumerate(bundle.batches):
        arrays |= {f"{part}.{micro}": array for part, array in zip(parts, batch, strict=False)}
    about = {
        "step": bundle.step,
        "config": bundle.config.to_dict(),
        "config_type": type(bundle.config).__name__,
        "dtype": bundle.dtype,
        "settings": bundle.settings.to_dict(),
        "learning_rate": bundle.learning_rate,
        "numbers": dict(bundle.numbers),
        "outcome": to_plain(bundle.outcome),
        "build": dict(bundle.build),
        "run": bundle.run,
        "growth": bundle.growth,
        "frozen": list(bundle.frozen),
        "origins": [list(rows) for rows in bundle.origins],
        "adapter": bundle.adapter,
        "storage": bundle.storage,
        "storage_errors": {name: list(errors) for name, (_, *errors) in bundle.stored.items()},
    }
    text = durable.dump_json(about).decode("ascii")
    metadata = {"format": FORMAT, "version": VERSION, "about": text, "sha256": digest_of(text, arrays)}
    durable.write_bytes(path, serialize_safetensors(arrays, metadata))


def digest_of(text: str, arrays: Mapping[str, np.ndarray]) -> str:
    digest = hashlib.sha256(text.encode())
    for name in sorted(arrays):
        array = np.ascontiguousarray(arrays[name])
        digest.update(f"\0{name}\0{array.dtype.str}\0{array.shape}\0".encode())
        digest.update(array.reshape(-1).view(np.uint8))
    return digest.hexdigest()


def to_plain(value: Any) -> Any:
    """``value`` for JSON: a float as its hex, so that it may be NaN or infinite; a dataclass as a dict."""
    if dataclasses.is_dataclass(value):
        return {field.name: to_plain(getattr(value, field.name)) for field in dataclasses.fields(value)}
    if isinstance(value, dict):
        return {str(key): to_plain(item) for key, item in value.items()}
    if isinstance(value, (list, tuple)):
        return [to_plain(item) for item in value]
    if isinstance(value, np.generic):
        value = value.item()
    return {"hex": value.hex()} if isinstance(value, float) else value


def _bare(value: Any) -> Any:
    """A birth without what is no part of ``==``."""
    return dataclasses.replace(value, raised=(), rank="") if isinstance(value, Birth) else value


def from_plain(value: Any) -> Any:
    """What :func:`to_plain` made plain; a list comes back as a tuple."""
    if isinstance(value, dict):
        return float.fromhex(value["hex"]) if set(value) == {"hex"} else {k: from_plain(v) for k, v in value.items()}
    return tuple(from_plain(item) for item in value) if isinstance(value, list) else value


# Reading


def bundles(folder: Path) -> list[Path]:
    """Those in a run's folder, or in its folder of bundles, in the order of their steps."""
    folder = folder / FOLDER if (folder / FOLDER).is_dir() else folder
    return sorted((p for p in folder.iterdir() if _NAME.fullmatch(p.name)), key=lambda p: (len(p.name), p.name))


def find_bundle(path: str | os.PathLike) -> Path:
    """The file itself; of a run's folder, or of its bundles, the bundle with the highest step. FileNotFoundError when
    there is none."""
    path = Path(path)
    if not path.is_dir():
        return path
    found = bundles(path)
    if not found:
        raise FileNotFoundError(2, "there is no bundle in this folder", str(path))
    return found[-1]


def is_watched(path: str | os.PathLike) -> bool:
    """Whether the file, or a folder's newest bundle, is of a watched program. Errors as of :func:`read_bundle`."""
    return read_metadata(find_bundle(path)).get("format") == WATCHED


def read_bundle(path: str | os.PathLike) -> Bundle:
    """Read and verify a bundle. OSError when there is no such file, CheckpointError for whatever is wrong in it."""
    path = find_bundle(path)
    tensors, metadata = parse_safetensors(durable.read_bytes(path), path)
    about = header_of(metadata, path, FORMAT)
    arrays = {name: tensor.array for name, tensor in tensors.items()}
    if digest_of(metadata["about"], arrays) != metadata.get("sha256"):
        raise CheckpointError(path, "its SHA-256 is not the one it was written with: the bytes have changed")
    with _usable(path):
        return _bundle_of(about, arrays)


def read_birth(path: str | os.PathLike) -> tuple[int, Birth | None, str | None]:
    """(step, birth, id of the run) of a bundle, also of a watched program's. Only the header is read: its SHA-256 is
    not verified. Errors as above."""
    about = header_of(read_metadata(path), path, FORMAT, WATCHED)
    with _usable(path):
        return int(about["step"]), birth_again(about["outcome"]["birth"]), _run_of(about)


def _run_of(about: Mapping[str, Any]) -> str | None:
    """None of a bundle that was written before they had the id."""
    run = about.get("run")
    return run if isinstance(run, str) else None


def header_of(metadata: Mapping[str, str], path: Any, *formats: str) -> Any:
    """What a bundle of one of these formats says of itself. CheckpointError for another file."""
    if (found := metadata.get("format")) not in formats:
        if found == WATCHED:
            raise CheckpointError(path, "this is a bundle of a watched program: only `loopos replay` opens it")
        raise CheckpointError(path, "this is not a bundle that loopos.train wrote")
    if metadata.get("version") != VERSION:
        raise CheckpointError(path, f"bundle version {metadata.get('version')!r}; this LoopOS reads {VERSION}")
    return durable.parse_json(metadata.get("about", "").encode(), path)


@contextlib.contextmanager
def _usable(path: Any) -> Iterator[None]:
    try:
        yield
    except (ValueError, TypeError, LookupError, AttributeError) as error:
        raise CheckpointError(path, f"it cannot be used: {type(error).__name__}: {error}") from error


def birth_again(saved: Mapping[str, Any] | None) -> Birth | None:
    if saved is None:
        return None
    names = {field.name for field in dataclasses.fields(Birth)}
    return Birth(**{name: from_plain(value) for name, value in saved.items() if name in names})


def _bundle_of(about: dict[str, Any], arrays: dict[str, np.ndarray]) -> Bundle:
    def part(prefix: str) -> dict[str, np.ndarray]:
        return {name[len(prefix) :]: array for name, array in arrays.items() if name.startswith(prefix)}

    kind = kind_named(about.get("config_type"))
    config, settings = kind.config.from_dict(about["config"]), TrainSettings(**about["settings"])
    first, targets, *more = (part(f"{name}.") for name in kind.parts)
    batches = [
        kind.check_batch(config, first[m], targets[m], *(each.get(m) for each in more), where=f"micro-batch {m}")
        for m in map(str, range(settings.grad_accum))
    ]
    known = {*(f"{name}.{m}" for name in kind.parts for m in range(settings.grad_accum))}
    if strange := [n for n in arrays if not n.startswith(("weights.", "moments.", "stored.")) and n not in known]:
        raise ValueError(f"tensors that belong to nothing: {strange}")
    if about["dtype"] not in _DTYPES or type(about["step"]) is not int or about["step"] < 1:
        raise ValueError(f"dtype {about['dtype']!r}, step {about['step']!r}")
    outcome = about["outcome"]
    birth = birth_again(outcome["birth"])
    for number in (outcome["loss"], outcome["grad_norm"]):
        float.fromhex(number)
    return Bundle(
        step=about["step"],
        config=config,
        dtype=about["dtype"],
        settings=settings,
        learning_rate=float(about["learning_rate"]),
        weights=part("weights."),
        moments=part("moments."),
        numbers=about["numbers"],
        batches=batches,
        outcome=Outcome(outcome["loss"], outcome["grad_norm"], int(outcome["valid_tokens"]), birth),
        build=about["build"],
        run=_run_of(about),
        growth=about.get("growth"),
        frozen=tuple(about.get("frozen", ())),
        origins=tuple(tuple(map(str, rows)) for rows in about.get("origins", ())),
        adapter=about.get("adapter"),
        storage=about.get("storage"),
        stored={name: (numbers, *about["storage_errors"][name]) for name, numbers in part("stored.").items()},
    )
