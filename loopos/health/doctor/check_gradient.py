"""What the doctor asks of the backward pass: it reaches every parameter, is right, and neither dies nor explodes."""

from __future__ import annotations

import math
from collections.abc import Mapping
from typing import Any

import numpy as np

from loopos.adapters.parts import A, B, Part
from loopos.data.batches import IGNORE
from loopos.gradients.gradcheck import gradcheck
from loopos.trainable import trainable_of

from .check_forward import judge_growth
from .patient import NotApplicable, Patient, blocks_of, listed, one_channel, one_entry, parts_of, rms
from .report import FAIL, OK, WARN, Check

FADES = 0.6  # of a gradient from block to block; it varies more than the signal does
SMALL = 300_000  # weights of a model that may be checked itself
NUDGE = 0.03  # of a tensor, relative to its size: how far it is moved to see whether the loss moves


def silent_parts(config: Any, gradients: Mapping[str, np.ndarray]) -> tuple[list[tuple[str, str]], int]:
    """((name, part) of every parameter, or part with a job of its own, whose gradient is zero throughout; how many
    parts were looked at). Structural zeros are no parts: a key's bias, to whose shift the softmax is blind."""
    silent, seen = [], 0
    for name, gradient in gradients.items():
        for part, rows in parts_of(config, name, gradient).items():
            if rows.size == 0 or (part == "k" and name.endswith(".bias")):
                continue
            seen += 1
            if not rows.any():
                silent.append((name, part))
    return silent, seen


def shown(part: tuple[str, str]) -> str:
    return f"{part[0]} ({part[1]})" if part[1] else part[0]


def reach(patient: Patient) -> Check:
    """Every parameter has a gradient. Of one that has none, moving it tells the reason: when the loss moves too, the
    backward is missing; when it does not, nothing depends on it."""
    name, expected = "gradient reaches", "all, but for what the batch does not use"
    ids, targets = patient.batch
    if not (targets != IGNORE).any():
        raise NotApplicable("no target counts")
    _, gradients = patient.loss_and_grads
    if list(gradients) != patient.names:
        missing = listed([key for key in patient.names if key not in gradients])
        measured = f"gradients have other names than parameters, missing: {missing}"
        return Check(name, measured, "one gradient for each parameter", FAIL, "return one for each, in their order")
    bad = [key for key, gradient in gradients.items() if not math.isfinite(float(np.sum(gradient, dtype=np.float64)))]
    bad = [key for key in bad if not np.isfinite(gradients[key]).all()]
    if bad:
        return Check(name, f"not finite: {listed(bad)}", "finite numbers", FAIL, "loopos train will refuse such a step")
    silent, seen = silent_parts(patient.config, gradients)
    if patient.at_rest:
        advice = "the student is its teacher, and nothing is left to learn: see the initial loss"
        return Check(name, f"0 of {seen} parts have a gradient, the loss is 0", expected, WARN, advice)
    if ids.shape[1] == 1:  # the softmax over one key is 1, whatever q and k
        norms = (".q_norm.weight", ".k_norm.weight")
        silent = [part for part in silent if part[1] not in ("q", "k") and not part[0].endswith(norms)]
    waiting = _waiting(patient.model)
    silent = [part for part in silent if part[0] not in waiting]
    unused = unused_rows(patient, gradients)
    measured = f"{seen - len(silent) - len(waiting)} of {seen} parts have a gradient"
    if waiting:
        measured += f", {len(waiting)} matrices A of an adapter will have one when their B, now 0, has moved"
    if unused["unreached"]:
        measured += f"; rows that the batch uses have none in {listed(unused['unreached'])}"
        return Check(name, measured, expected, FAIL, "the backward of the embedding is missing or writes elsewhere")
    if not silent:
        return Check(name, measured, expected, OK)
    named = listed([shown(part) for part in silent])
    moving = [part for part in silent if _loss_moves(patient, part)]
    if moving:
        advice = (
            f"the loss moves when {listed([shown(part) for part in moving])} does, the gradient says it does not: the "
            "backward is missing there. A falling loss is no proof against it"
        )
        return Check(name, f"{measured}; none for {named}", expected, FAIL, advice)
    if why := one_channel(patient.config) or one_entry(patient.config):
        return Check(name, f"{measured}; none for {named}: {why}", expected, OK)
    still = _silent_after_a_step(patient)
    later = [part for part in silent if part in still]
    if later:
        advice = (
            f"nothing depends on {listed([shown(part) for part in later])}, before an update and after it: a scale or "
            "gate of 0, units that are all off, or a branch that is not connected"
            + ("; A and B of an adapter that are both 0 stay so" if getattr(patient.model, "adapter", None) else "")
        )
        return Check(name, f"{measured}; none for {named}", expected, FAIL, advice)
    advice = "something after them starts at zero; after one update the gradient reaches them"
    return Check(name, f"{measured}; none yet for {named}", expected, WARN, advice)


def _waiting(model: Any) -> set[str]:
    """The matrices A of an adapter whose B is 0, as it is at first: their gradient is 0 with it."""
    parts = [each for each in getattr(model, "adapter_parts", ()) if isinstance(each, Part)]
    views = model.parameters() if parts else {}
    return {f"{each.name}.{A}" for each in parts if not views[f"{each.name}.{B}"].any()}


def unused_rows(patient: Patient, gradients: Mapping[str, np.ndarray]) -> dict[str, list[str]]:
    """{"unreached": names of the tables that have a row which the batch uses and which has no gradient}.

    Only what some scored target can see counts: the tokens up to the last scored position of each row."""
    ids, targets = patient.batch
    seen = np.zeros(ids.shape, bool)
    for row, scored in enumerate(targets != IGNORE):
        if scored.any():
            seen[row, : int(np.flatnonzero(scored)[-1]) + 1] = True
    used = {"tok_embed.weight": np.unique(ids[seen]), "pos_embed.weight": np.flatnonzero(seen.any(0))}
    tables = {key: gradients[key][rows] for key, rows in used.items() if key in gradients and len(rows)}
    partly = [key for key, rows in tables.items() if rows.any() and not rows.any(axis=1).all()]
    return {"unreached": partly}


def _loss_moves(patient: Patient, part: tuple[str, str]) -> bool:
    """Whether the loss changes when this part is changed by a random direction, beyond rounding."""
    before = patient.loss()
    with patient.restored() as saved:
        view = parts_of(patient.config, part[0], patient.model.parameters()[part[0]])[part[1]]
        noise = patient.rng.standard_normal(view.shape)
        for times in (1.0, 30.0):  # a table of positions may be hardly felt at first
            size = times * NUDGE * min(max(rms(saved[part[0]]), 0.02), 1.0)  # no leap over what is far away
            view += (size * noise).astype(view.dtype)
            moved = abs(patient.loss() - before)
            if moved > 16 * np.finfo(view.dtype).eps * max(1.0, abs(before)):
                return True
    return False


def _silent_after_a_step(patient: Patient) -> list[tuple[str, str]]:
    """What has no gradient still, when every other parameter has gone a little along its own."""
    _, gradients = patient.loss_and_grads
    with patient.restored():
        for name, view in trainable_of(patient.model).items():
            size = rms(gradients[name])
            if size > 0:
                step = NUDGE * max(rms(view), 0.02) / size
                view -= (gradients[name] * gradients[name].dtype.type(step)).astype(view.dtype)
        compute = patient.model.loss_and_grads if patient.task is None else lambda *batch: patient.task.compute(batch)
        _, later = compute(*patient.batch)
    return silent_parts(patient.config, later)[0]


def backward_growth(patient: Patient) -> Check:
    """How the gradient of a block's parameters changes from the last block to the first."""
    blocks = blocks_of(patient.names)
    if len(blocks) < 2:
        raise NotApplicable("fewer than two blocks")
    _, gradients = patient.loss_and_grads
    sizes = []
    for names in blocks.values():
        total = sum(float(np.vdot(gradients[key], gradients[key])) for key in names)
        sizes.append(math.sqrt(total / max(1, sum(gradients[key].size for key in names))))
    if patient.at_rest:
        raise NotApplicable("every gradient is 0, see the initial loss")
    if not any(sizes) and (why := one_channel(patient.config) or one_entry(patient.config)):
        raise NotApplicable(why)
    return judge_growth("growth backward", sizes[::-1], FADES)


def whole_model(patient: Patient) -> Check:
    """loopos.gradcheck of a small sibling in float64, along random directions; the weights are warmed up with noise. A
    model that has no sibling, is small, and in float64 itself, is checked as it is."""
    name, own = "gradcheck", patient.model
    try:
        model, pair = patient.sibling(), patient.sibling_batch()
    except NotApplicable:
        if getattr(own, "dtype", "") != "float64" or patient.size > SMALL or not hasattr(own, "state_dict"):
            raise
        model, pair = own, patient.cut(*patient.batch, 32)
    if getattr(model, "dtype", "float64") != "float64":
        raise NotApplicable("no float64 sibling can be built")
    report = gradcheck(model, pair, directions=1, raise_exception=False)
    size = sum(view.size for view in model.parameters().values())
    measured = f"largest relative error {report.max_error:.1e} over {len(report.results)} groups of {size} weights"
    expected = f"at most {report.rtol:.0e} in float64"
    wrong = [result for result in report.results if not result.passed]
    if not wrong:
        return Check(name, measured, expected, OK)
    named = listed([result.name for result in wrong if result.name != "all parameters"] or [wrong[0].name])
    advice = f"the backward of {named} is wrong: {wrong[-1].reason}. loopos.gradcheck tells more"
    return Check(name, measured, expected, FAIL, advice)
