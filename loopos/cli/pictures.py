"""What ``loopos info`` and ``loopos doctor`` say of a folder with a captioner, or with an encoder of pictures."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import fields, replace
from pathlib import Path
from typing import Any

import numpy as np

from loopos import build_info
from loopos.files.run_folder import holds_checkpoint, load_checkpoint
from loopos.run.computed import Computed
from loopos.run.messages import to_stderr
from loopos.vision.captioner import Captioner
from loopos.vision.opening import open_pictures
from loopos.vision.standard import CaptionSetting

from . import pictured
from .common import use_threads
from .reply import Reply

LOOKED_AT = 400  # pictures that the doctor reads at most
RUN = ("batch_size", "learning_rate", "optimizer", "weight_decay", "betas", "eps", "max_grad_norm", "muon_lr")


def info(folder: str) -> Reply | None:
    """None for a folder that holds neither."""
    if (model := open_pictures(folder)) is None:
        return None
    state = _state(folder)
    article, kind = ("a", "captioner") if isinstance(model, Captioner) else ("an", "encoder of pictures")
    facts: dict[str, Any] = {"folder": folder, "kind": f"run of {article} {kind}" if state else kind}
    if state:
        trained = Computed.recorded(state)
        facts |= {"updates": state["step"], "data": state["data"].get("kind")}
        facts |= {"precision": trained.precision, "products": trained.products}
    facts |= {"dtype": model.dtype, "parameters": model.config.num_parameters()}
    if isinstance(model, Captioner):
        facts["words"] = None if model.vocabulary is None else model.vocabulary.vocab_size
        config = model.config.to_dict()
        facts |= {f"{half}.{name}": value for half in ("encoder", "decoder") for name, value in config[half].items()}
        facts["fusion"] = config["fusion"]
    else:
        facts |= model.config.to_dict()
        if model.config.num_classes:
            facts["classes"] = list(pictured.classes_of(folder, model))
    bad = {name: int((~np.isfinite(view)).sum()) for name, view in model.parameters().items()}
    if any(bad.values()):
        facts["not_finite"] = [f"{name} ({count})" for name, count in bad.items() if count]
    told = {name: list(map(str, value)) if isinstance(value, list) else value for name, value in facts.items()}
    return Reply(facts, build_info.as_text(told))


def _state(folder: str) -> dict[str, Any]:
    """Of the newest checkpoint, with its step; empty where there is none."""
    if not holds_checkpoint(folder):
        return {}
    checkpoint = load_checkpoint(folder)
    return dict(checkpoint.state) | {"step": checkpoint.step}


def examine(folder: str, quick: bool, given: Mapping[str, Any]) -> Reply | None:
    """The checks of the doctor on the model in a folder, with the data that its run noted, or with made-up pictures.
    None for a folder that holds neither. given: other options, of which only threads is for this."""
    from loopos.health.doctor.doctor import doctor

    if not Path(folder).is_dir() or (model := open_pictures(folder)) is None:
        return None
    given = dict(given)
    use_threads(given)
    if given:
        raise ValueError(
            f"{folder} is a model of pictures: quick and threads are for it, got {', '.join(given)} as well"
        )
    noted, settings = pictured.noted(folder), _state(folder).get("settings", {})
    own = {name: settings[name] for name in RUN if settings.get(name) is not None}
    data = None if noted is None else _data(noted, model)
    report = doctor(model, data, quick=quick, **own)
    return Reply(report.to_dict() | {"forecast": None}, str(report), 0 if report.ok else 1)


def _data(noted: dict[str, Any], model: Any) -> Any:
    """The pictures of a run, at most so many; None where they are gone."""
    few = min(noted.get("subset") or LOOKED_AT, LOOKED_AT)
    try:
        if isinstance(model, Captioner):
            known = {each.name for each in fields(CaptionSetting)} & set(noted)
            return replace(CaptionSetting(**{name: noted[name] for name in known}), subset=few).pictures
        return pictured.labelled(noted["data"], model.config.height, few)
    except (OSError, ValueError, ImportError) as error:
        to_stderr(f"doctor: the pictures of the run cannot be read, so made-up ones are shown: {error}")
        return None
