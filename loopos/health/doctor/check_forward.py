"""What the doctor asks of the forward pass: where the loss starts, who sees whom, and two ways to one result."""

from __future__ import annotations

import math
from collections.abc import Callable, Iterator
from typing import Any

import numpy as np

from loopos import _core, ops
from loopos.adapters.whole import Whole
from loopos.births.advice import advice as advice_on
from loopos.data.batches import IGNORE

from .check_precision import computed_in
from .patient import NotApplicable, Patient, one_channel, rms
from .report import FAIL, OK, WARN, Check
from .stream import stream

WIDE, FAR_TOO_WIDE = 1.0, 3.0  # nats that var(logits)/2 adds to the loss
ROUNDING = {"float32": 2e-5, "float64": 1e-12}  # relative to the largest logit, or to the loss
ENOUGH = 3  # steps from block to block that make a rate
SHRINKS, DIES, GROWS, EXPLODES = 0.8, 1e-2, 1e3, 1e4  # per block; first to last


def precision(array: np.ndarray) -> float:
    return ROUNDING[str(np.asarray(array).dtype)]


def mean_loss(logits: np.ndarray, targets: np.ndarray) -> float:
    """Of logits (B, T, V) against targets (B, T), by loopos.ops: not the code of the model's own loss."""
    flat = np.ascontiguousarray(logits).reshape(-1, logits.shape[-1])
    return float(ops.cross_entropy(flat, np.ascontiguousarray(targets, np.int64).reshape(-1))[0])


def initial_loss(patient: Patient) -> Check:
    """The loss of a model that knows nothing is ln V + var(logits)/2: its logits are numbers without relation to the
    targets, and log-sum-exp of normal ones is ln V + mean + var/2."""
    name = "initial loss"
    ids, targets = patient.batch
    scored = targets != IGNORE
    if not scored.any():
        raise NotApplicable("no target counts")
    rows, vocab = patient.logits[scored], patient.logits.shape[-1]
    loss, uniform = float(patient.model.loss(ids, targets)), math.log(vocab)
    spread = float(rows.var(axis=1).mean())
    guess = uniform + spread / 2
    # A mean over n different labels of logits of this spread; what is not normal about them is within 0.1.
    tolerance = 0.1 + 4 * math.sqrt(spread / len(np.unique(targets[scored])))
    measured = f"{loss:.4f} nats with var(logits) {spread:.3g}"
    expected = f"ln {vocab} + var/2 = {uniform:.4f} + {spread / 2:.3g} = {guess:.4f}, or less where it has learned"
    if not math.isfinite(loss):
        return Check(name, measured, expected, FAIL, "the first loss is not finite: look for weights that are not")
    if loss <= min(guess + tolerance, uniform + WIDE):
        return Check(name, measured, expected, OK)
    shifted = np.full_like(targets, IGNORE)
    if not getattr(patient.config, "labels", ()):  # a class is no id
        shifted[:, :-1] = np.where(scored[:, :-1], ids[:, 1:], IGNORE)
    there = mean_loss(patient.logits, shifted) if (shifted != IGNORE).any() else loss
    if there < min(loss - 0.5, uniform):
        advice = (
            f"the labels are wrong, not the model: scored against the next ids its loss is {there:.4f}. Look at how "
            "targets are made, and at the tokenizer"
        )
        return Check(name, measured, expected, FAIL, advice)
    if spread / 2 > WIDE:
        advice = (
            f"the initialisation is too wide: it alone adds {spread / 2:.3g} nats, and the first updates only undo "
            "it. Look at the standard deviation of embeddings and head (usual: 0.02) and at the last norm"
        )
        return Check(name, measured, expected, FAIL if loss > uniform + FAR_TOO_WIDE else WARN, advice)
    advice = (
        "the labels are to blame: these logits are narrow and yet wrong more often than by chance, as when labels come "
        "from another vocabulary than the model's"
    )
    return Check(name, measured, expected, FAIL, advice)


def causality(patient: Patient) -> Iterator[Check]:
    """A token is seen from its own position on, by its own row, and nowhere else."""
    ids = patient.batch[0][:2].copy()
    if ids.shape[1] < 2:
        raise NotApplicable("one position alone has no later token")
    if len(ids) == 1:
        ids = np.concatenate([ids, ids])
    before, at = patient.forward(ids), ids.shape[1] // 2
    if patient.vocab < 2:
        raise NotApplicable("a vocabulary of one has no other token")
    for other in (1 + patient.vocab // 2, 1, 2):  # a very narrow norm may take two tokens for one
        changed = ids.copy()
        changed[0, at] = (ids[0, at] + other) % patient.vocab
        if changed[0, at] == ids[0, at]:
            continue
        after = patient.forward(changed)
        if (after[0, at + 1 :] != before[0, at + 1 :]).any():
            break
    scale = max(1e-30, float(np.abs(before).max()))
    early, late, other = (
        float(np.abs(after[part] - before[part]).max()) / scale for part in (np.s_[0, :at], np.s_[0, at:], np.s_[1:])
    )
    allowed = precision(before)
    leak = "positions before see the token: targets leak into the input through the mask"
    yield _small("causality", f"another token at {at} moves earlier logits by {early:.1e}", early, allowed, leak)
    rows = "rows of a batch see each other: look for a reshape that mixes them"
    yield _small("row independence", f"it moves other rows' logits by {other:.1e}", other, allowed, rows)
    reach = float(np.abs(after[0, at + 1 :] - before[0, at + 1 :]).max()) / scale if at + 1 < ids.shape[1] else late
    measured, expected = f"it moves its own and later logits by {late:.1e}, those after it by {reach:.1e}", "not 0"
    if (late == 0 or reach == 0) and (why := one_channel(patient.config)):
        yield Check("context", f"{measured}: {why}", expected, OK)
    elif late == 0 or reach == 0:
        where = "the input is not used at all" if late == 0 else "attention carries nothing: no position sees another"
        yield Check("context", measured, expected, FAIL, where)
    else:
        yield Check("context", measured, expected, OK)


def _small(name: str, measured: str, error: float, allowed: float, advice: str) -> Check:
    good = error <= allowed  # false for NaN
    return Check(name, measured, f"at most {allowed:.0e}", OK if good else FAIL, "" if good else advice)


def one_loss(patient: Patient) -> Check:
    """forward and cross-entropy, loss, and the loss beside the gradients are one number."""
    ids, targets = patient.batch
    losses = {"loss": float(patient.model.loss(ids, targets))}
    if patient.task is None:
        losses["loss_and_grads"] = float(patient.loss_and_grads[0])
    elif patient.task.rows == 2:  # an evaluation of preferences is of preferences, one of a student of its targets
        losses = {"training": float(patient.loss_and_grads[0]), "evaluation": patient.task.score(patient.batch)[0]}
    if hasattr(patient.model, "forward") and "loss" in losses:
        losses["forward + cross_entropy"] = mean_loss(patient.logits, targets)
    values = list(losses.values())
    error = (max(values) - min(values)) / max(1e-30, max(map(abs, values)))
    measured = ", ".join(f"{name} {value:.7g}" for name, value in losses.items()) + f": apart by {error:.1e}"
    allowed = ROUNDING[str(next(iter(patient.model.parameters().values())).dtype)]
    advice = "training and evaluation do not compute the same: another mode, another mask, another mean"
    return _small("train and evaluation", measured, error, allowed, advice)


def padding(patient: Patient) -> Check:
    """A row and columns more that are not scored change neither loss nor gradient."""
    model = _sound(patient.sibling)
    ids, targets = patient.sibling_batch()
    time = ids.shape[1] - 2
    wide = np.random.default_rng(5).integers(0, patient.sibling_config.vocab_size, (len(ids) + 1, ids.shape[1]))
    masked = np.full_like(wide, IGNORE)
    ids, targets = ids[:, :time], targets[:, :time]
    wide[:-1, :time], masked[:-1, :time] = ids, targets
    error = difference(model.loss_and_grads(ids, targets), model.loss_and_grads(wide, masked))
    advice = "what is not scored must not count: look at the mean (over scored targets only) and at the masks"
    return _small("padding", f"ignored rows and columns move loss and gradient by {error:.1e}", error, 1e-10, advice)


def difference(one: tuple[float, dict], two: tuple[float, dict]) -> float:
    """The larger of the relative differences of two losses and of two gradients as a whole."""
    loss = abs(one[0] - two[0]) / max(abs(one[0]), abs(two[0]), 1e-30)
    apart = math.sqrt(sum(float(np.sum((one[1][name] - two[1][name]) ** 2)) for name in one[1]))
    size = math.sqrt(sum(float(np.sum(one[1][name] ** 2)) for name in one[1]))
    return max(loss, apart / max(size, 1e-30))


def _sound(build: Callable[[], Any]) -> Any:
    model = build()
    if getattr(model, "dtype", "float64") != "float64":
        raise NotApplicable("no float64 sibling can be built")
    return model


def cache(patient: Patient) -> Check:
    """Generation, which keeps keys and values, chooses the tokens that whole forwards choose."""
    name = "generation"
    model = patient.sibling()
    if not hasattr(model, "generate"):
        raise NotApplicable("the model has no generate")
    config = patient.sibling_config
    start = config.context_length // 3
    ids = np.random.default_rng(6).integers(0, config.vocab_size, (2, start))
    new = config.context_length - start
    written = model.generate(ids, new, temperature=0)
    logits = model.forward(written)[:, start - 1 : -1]
    chosen = np.take_along_axis(logits, written[:, start:, None], axis=2)[..., 0]
    error = float((logits.max(axis=2) - chosen).max()) / max(1e-30, float(np.abs(logits).max()))
    core = getattr(model, "_core", None) if patient.plain else None
    if core is not None:  # the logits themselves, where they can be had
        core.start_generation(*written.shape)
        steps = [core.next_logits(written[:, :start])]
        steps += [core.next_logits(written[:, at : at + 1]) for at in range(start, written.shape[1] - 1)]
        error = max(error, float(np.abs(np.stack(steps, axis=1) - logits).max()) / float(np.abs(logits).max()))
    measured = f"{new} tokens of each row; logits with kept keys and values differ by {error:.1e}"
    return _small(name, measured, error, 1e-10, "the key/value cache is wrong: positions, or what is kept of a row")


def guards(patient: Patient) -> Check:
    """Rows of the batch whose result a guard decided: the eps of a norm, or what a softmax does without a key."""
    before = _core.guard_counts()
    patient.model.loss(*patient.batch)
    fired = {site: count - before[site] for site, count in _core.guard_counts().items() if count > before[site]}
    expected = "none"
    if not fired:
        return Check("guards", "no row was decided by a guard", expected, OK)
    floors = [site for site in fired if site.endswith("_eps")]
    kind = "eps floor active" if floors else "all-masked row"
    measured = f"{kind}: " + ", ".join(f"{site} decided {count} rows" for site, count in fired.items())
    return Check("guards", measured, expected, WARN, advice_on(kind, "", ""))


def growth(patient: Patient) -> Iterator[Check]:
    """How the signal grows from block to block. A gate of 0.75 in each of 32 blocks leaves 1e-4 of it."""
    if hasattr(patient.model, "activations"):
        layers = patient.model.activations(patient.batch[0])
    elif patient.plain:
        ids = patient.batch[0][:2, :64]
        modulation = getattr(patient.model.adapter, "arithmetic", None)
        layers, logits = stream(patient.config, Whole(patient.model), np.ascontiguousarray(ids), modulation)
        with computed_in(patient.model, "float32"):  # what a lesser precision changes is measured by itself
            core = patient.model.forward(np.ascontiguousarray(ids))
        error = float(np.abs(core - logits).max()) / max(1e-30, float(np.abs(core).max()))
        measured = f"the core's logits and those of its operations one by one differ by {error:.1e}"
        advice = "the model does not compute what its parameters and operations say"
        yield _small("two ways", measured, error, 10 * precision(core), advice)
    else:
        wanted = "give it activations(ids) -> [stream before and after each block]"
        raise NotApplicable(f"the model shows no activations: {wanted}")
    yield judge_growth("growth forward", [_typical(layer) for layer in layers])


def _typical(layer: np.ndarray) -> float:
    """The median over positions of the rms: single positions are legally large in trained models."""
    sizes = np.sqrt(np.mean(np.square(layer, dtype=np.float64), axis=-1))
    return float(np.median(sizes)) if sizes.size else rms(layer)


def judge_growth(name: str, sizes: list[float], shrinks: float = SHRINKS) -> Check:
    """sizes: one a block, in the order in which the signal passes; shrinks: a rate below which it is remarkable."""
    if len(sizes) < 2:
        raise NotApplicable("one block alone does not grow")
    first, last, steps = sizes[0], sizes[-1], len(sizes) - 1
    if not any(sizes):
        advice = "nothing arrives anywhere: see the checks of the labels, of what the gradient reaches and of the data"
        return Check(name, f"0 in each of {len(sizes)} blocks", "not 0", FAIL, advice)
    total = last / first if first > 0 else math.nan
    each = total ** (1 / steps) if total > 0 else 0.0
    measured = f"rms {first:.3g} at first, {last:.3g} after {steps} blocks: {each:.3f} a block"
    expected = f"at least {shrinks} a block, in all from {DIES:g} to {GROWS:g}"
    if not DIES <= total <= EXPLODES:  # NaN too
        advice = (
            "the signal dies away: a gate or scale below 1 in each block multiplies up; it must be 1 at the start"
            if total < DIES
            else "the signal explodes: look at the scale of the output matrices (usual: 0.02 / sqrt(2 n_layer))"
        )
        return Check(name, measured, expected, FAIL, advice)
    if (each < shrinks and steps >= ENOUGH) or total > GROWS:
        return Check(name, measured, expected, WARN, "more blocks of this kind will let the signal die or explode")
    return Check(name, measured, expected, OK)
