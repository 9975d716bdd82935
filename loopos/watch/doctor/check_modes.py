"""Training mode and evaluation mode differ where they should, and only there."""

from __future__ import annotations

import math

from loopos.health.doctor.report import FAIL, OK, WARN, Check

from .subject import SEED, NotApplicable, Subject, listed

APART = 1e-4  # relative, of two ways to one loss


def _apart(one: float, two: float) -> float:
    """Relative difference; 0 where both are not finite."""
    if one == two or (not math.isfinite(one) and not math.isfinite(two)):
        return 0.0
    return abs(one - two) / max(abs(one), abs(two), 1e-12)


def repeats(subject: Subject) -> Check:
    """The same batch, weights and seeds give the same loss, bit for bit."""
    losses = [subject.first().loss, *(subject.run(train=True).loss for _ in range(3))]
    gap = max(_apart(losses[0], each) for each in losses)
    expected = "the same bits four times"
    if gap:
        advice = (
            "a generator nobody seeds, data changed or lost on their way to the device, or a state that is kept "
            "between calls: what is computed is not what the weights and the batch say"
        )
        return Check(
            "loss repeats", f"{min(losses):.8g} to {max(losses):.8g}", expected, WARN if gap < 1e-5 else FAIL, advice
        )
    return Check("loss repeats", f"{losses[0]:.6g}", expected, OK)


def still(subject: Subject) -> Check:
    """No dropout is drawn in evaluation mode."""
    subject.first()
    run = subject.run(train=False, watch=True)
    again = subject.run(train=False, number=SEED + 1)
    drops = sorted(name or "the model itself" for name in run.seen.drops)
    expected = "no dropout"
    if drops:
        advice = (
            "dropout does not look at self.training there: F.dropout(x, p, training=self.training), dropout_p=0 in eval"
        )
        return Check("evaluation is still", f"dropout is drawn in {listed(drops)}", expected, FAIL, advice)
    gap = _apart(run.loss, again.loss)
    text = "no random number changes the loss" if not gap else f"samples change the loss by {gap:.1e}, no dropout"
    return Check("evaluation is still", text, expected, OK)


def dropout(subject: Subject) -> Check:
    """Dropout that the model has is drawn in training."""
    from torch import nn

    kinds = (nn.Dropout, nn.Dropout1d, nn.Dropout2d, nn.Dropout3d, nn.AlphaDropout, nn.FeatureAlphaDropout)
    asked = [name for name, module in subject.modules.items() if isinstance(module, kinds) and module.p > 0]
    if not asked:
        raise NotApplicable("the model has no dropout modules with p above 0")
    drops = subject.first().seen.drops
    if not drops:
        advice = "the model computes in evaluation mode while it trains, or its dropout is never called"
        return Check("dropout is live", f"none of {listed(asked)} draws a mask", "drawn in training", FAIL, advice)
    return Check("dropout is live", f"{len(drops)} modules draw a mask", "drawn in training", OK)


def one_path(subject: Subject) -> Check:
    """Without dropout and batch statistics, training and evaluation compute one loss."""
    from torch import nn

    name, expected = "train and evaluation", f"one loss, within {APART:g}"
    norms = [m for m in subject.modules.values() if getattr(m, "running_mean", None) is not None]
    subject.first()
    train = _without_statistics(subject, norms)
    try:
        evaluated = subject.run(train=False, still=True).loss
    except (KeyError, AttributeError, TypeError, RuntimeError) as error:
        raise NotApplicable(f"loss_fn cannot be computed in evaluation mode: {error}") from None
    gap = _apart(train, evaluated)
    if math.isfinite(train) != math.isfinite(evaluated) or gap > APART:
        hooks = [key for key, module in subject.modules.items() if hasattr(module, "weight_orig")]
        advice = "besides dropout and batch norm something asks for self.training: a normalisation, a head, a branch"
        if hooks:
            advice = (
                f"{listed(hooks)} has a computed weight (spectral norm) that is only computed in training "
                f"mode: {advice}"
            )
        if any(isinstance(module, nn.MultiheadAttention) for module in subject.modules.values()):
            advice += "; nn.MultiheadAttention takes its fast path in evaluation"
        text = f"{train:.8g} in training and {evaluated:.8g} in evaluation, with the same weights and no dropout"
        return Check(name, text, expected, FAIL, advice)
    return Check(name, f"{train:.6g} and {evaluated:.6g}", expected, OK)


def _without_statistics(subject: Subject, norms: list) -> float:
    """The loss in training mode, with batch norms that use their running statistics."""
    with subject.kept(weights=False):
        subject.model.train()
        for module in norms:
            module.eval()
        lstm = [m for m in subject.modules.values() if getattr(m, "dropout", None) and hasattr(m, "num_layers")]
        for module in lstm:
            if isinstance(module.dropout, float):
                module.dropout = 0.0
        return subject.compute(still=True).loss


def switching(subject: Subject) -> Check:
    """train() and eval() change the mode, and nothing of what is trained."""
    name, expected = "switching modes", "the same parameters are trained before and after train() and eval()"
    before = set(subject.trained)
    with subject.kept(weights=False):
        subject.model.eval()
        subject.model.train()
        after = set(subject.trained)
    if before != after:
        fewer, more = sorted(before - after), sorted(after - before)
        said = [f"train() freezes {listed(fewer)}"] if fewer else []
        said += [f"train() frees {listed(more)}"] if more else []
        advice = (
            "what is frozen depends on whether train() was called: freeze in __init__, or call train() "
            "before the optimizer"
        )
        return Check(name, "; ".join(said), expected, FAIL, advice)
    return Check(name, f"{len(before)} parameters are trained in both", expected, OK)


def state_dict(subject: Subject) -> Check:
    """What would be saved holds every parameter, and can be loaded."""
    saved = subject.model.state_dict()
    names = dict(subject.model.named_parameters(remove_duplicate=False))
    lacking = [name for name in subject.parameters if name not in saved and not _saved_elsewhere(names, name, saved)]
    expected = f"all {len(subject.parameters)} parameters"
    if lacking:
        frozen = [name for name in lacking if not names[name].requires_grad]
        why = "the frozen ones are left out: " if len(frozen) == len(lacking) else ""
        advice = f"{why}a model that is loaded from it has other weights there; save all of them"
        return Check("state dict", f"it lacks {listed(lacking)}", expected, FAIL, advice)
    if not isinstance(saved, dict):
        raise NotApplicable("state_dict() gives no dict")
    return Check("state dict", f"{len(saved)} entries", expected, OK)


def _saved_elsewhere(names: dict, name: str, saved: dict) -> bool:
    """Under another name of the same tensor, or as a part of what the module saves in its own form."""
    if any(other in saved for other, p in names.items() if p is names[name]):
        return True
    stem = name.rpartition(".")[0]
    return any(key.startswith(f"{stem}._extra_state") or key.startswith(f"{stem}._packed") for key in saved)
