"""What the doctor asks of an adapter: that a modulated one begins as the model it stands on, and that a base stays.

Whether an adapter is reached by a gradient and moves is asked of it as of every parameter: check_gradient.py and
check_update.py.
"""

from __future__ import annotations

import hashlib
from collections.abc import Callable, Iterator
from typing import Any

import numpy as np

from loopos.adapters.modulated import B_ADD, STD, Modulated
from loopos.data.batches import IGNORE
from loopos.health.ledger import trace_step

from .patient import IN_PLACE, Batches, NotApplicable, Patient, listed, rms
from .report import FAIL, OK, WARN, Check

WORSE = 0.1  # nats
LARGE = 0.1  # an added part of this share of what it is added to is no small beginning
IDENTITY = 1e-6  # how far from 1 a gate may begin


def check_adapter(patient: Patient) -> Iterator[Check]:
    """Nothing of a model without an adapter."""
    spec = getattr(patient.model, "adapter", None)
    if isinstance(spec, Modulated):
        inputs, results, added = _sizes(patient, spec)
        yield gate(patient, spec, [after / before for before, after in zip(inputs, results, strict=True) if before > 0])
        yield added_part(patient, [part / size for part, size in zip(added, inputs, strict=True) if size > 0])
    if spec is not None:
        yield from beside_the_base(patient)
        yield base(patient)


def gate(patient: Patient, spec: Modulated, left: list[float]) -> Check:
    """1 where training begins. left: what the modulation leaves of the feed-forward's input, by block, as measured."""
    name, expected = "gate", "1 at 0"
    if spec.safe_mode:
        return Check(name, "none: safe_mode adds and does not multiply", expected, OK)
    found = spec.measured()
    measured = (
        f"{found.at_zero:g} at 0 with slope {found.slope:g}, from {found.least:g} to {found.largest:g}; the "
        f"feed-forwards are given {np.mean(left):.3f} of their input"
    )
    if abs(found.at_zero - 1) <= IDENTITY:
        return Check(name, measured, expected, OK)
    blocks = patient.config.n_layer
    measured += f", {found.at_zero:g}^{blocks} = {found.at_zero**blocks:.1e} over {blocks} blocks that multiply up"
    advice = (
        f"gate={spec.gate!r} takes from every block before anything is learned, and the logits have moved by "
        f"{_moved(patient):.0%}: 'sigmoid' (0.5 + sigmoid) and 'tanh' (1 + tanh / 2) are 1 at 0, from 0.5 to 1.5"
    )
    return Check(name, measured, expected, FAIL, advice)


def added_part(patient: Patient, shares: list[float]) -> Check:
    """shares: of the added part in what the feed-forward is given, by block."""
    name, expected = "added part", f"at most {LARGE:g} of the feed-forward's input at the start"
    worst = int(np.argmax(shares)) if shares else 0
    matrix = f"blocks.{worst}.modulate.{B_ADD}"
    size = rms(patient.model.parameters()[matrix])
    measured = f"{max(shares, default=0.0):.2g} of it in block {worst}, {matrix} has rms {size:.2g}"
    if not shares or shares[worst] <= LARGE:
        return Check(name, measured, expected, OK)
    advice = (
        f"the logits have moved by {_moved(patient):.0%} from the base's: begin with {B_ADD} of standard deviation "
        f"{STD[B_ADD]:g}, as add_adapter does (nothing is wrong where this adapter was trained already)"
    )
    return Check(name, measured, expected, WARN, advice)


def beside_the_base(patient: Patient) -> Iterator[Check]:
    """The loss with the adapter and without: one that begins well, or was trained on such data, makes it no worse.
    Nothing where the targets are not what is learned."""
    ids, targets = patient.batch
    if patient.task is not None or not (targets != IGNORE).any():
        return
    name, expected = "adapter loss", f"at most {WORSE:g} nats more than without"
    on, off = (float(loss) for loss in _with_and_without(patient, lambda: patient.model.loss(ids, targets)))
    measured = f"{on:.4f} nats with it, {off:.4f} without"
    if on <= off + WORSE:
        yield Check(name, measured, expected, OK)
        return
    advice = (
        "the adapter does harm before it has learned anything: begin as add_adapter does, with B of LoRA at 0; one "
        "that was trained needs the base that it was trained on"
    )
    yield Check(name, measured, expected, WARN, advice)


def base(patient: Patient) -> Check:
    """An update moves the adapter and no bit of what it stands on."""
    name, expected = "base", "no bit moves while the adapter learns"
    weights = patient.config.num_parameters()
    if patient.quick and weights > IN_PLACE:
        raise NotApplicable(f"{weights} weights are left to the full round")
    if not (patient.batch[1] != IGNORE).any():
        raise NotApplicable("no target counts")
    with patient.restored():
        before = _digests(patient)
        patient.take_steps(patient.model, Batches([[patient.batch]]), 1)
        moved = [key for key, digest in _digests(patient).items() if digest != before[key]]
    if moved:
        advice = "the trainer updates what is frozen: an adapter that is saved alone would belong to no base"
        return Check(name, f"{len(moved)} of {len(before)} tensors move: {listed(moved)}", expected, FAIL, advice)
    return Check(name, f"{len(before)} frozen tensors keep their bits", expected, OK)


def _digests(patient: Patient) -> dict[str, bytes]:
    """Of every parameter that is not the adapter's."""
    own = set(patient.names)
    views = {key: view for key, view in patient.model.parameters().items() if key not in own}
    return {key: hashlib.sha256(np.ascontiguousarray(view)).digest() for key, view in views.items()}


def _sizes(patient: Patient, spec: Modulated) -> tuple[list[float], list[float], list[float]]:
    """By block, the rms of the feed-forward's input, of what the modulation makes of it, and of the added part."""
    found = {
        row["tensor"]: row["rms"] for row in trace_step(patient.model, *patient.batch) if row["phase"] == "forward"
    }
    before = "attn_residual" if patient.config.norm_placement == "post" else "mlp_norm"
    blocks = range(patient.config.n_layer)
    of = lambda tensor, factor=1.0: [factor * found[f"blocks.{i}.{tensor}"] for i in blocks]  # noqa: E731
    return of(f"{before}.y"), of("modulate.y"), of("modulate.d", abs(spec.additive_scale))


def _moved(patient: Patient) -> float:
    """How far the adapter moves the logits of the batch, of their size."""
    on, off = _with_and_without(patient, lambda: patient.model.forward(patient.batch[0]))
    return rms(on.astype(np.float64) - off) / max(1e-30, rms(off))


def _with_and_without(patient: Patient, compute: Callable[[], Any]) -> tuple[Any, Any]:
    core = patient.model._core
    with patient.model.lock:
        on = compute()
        core.adapter_enabled(False)
        try:
            return on, compute()
        finally:
            core.adapter_enabled(True)
