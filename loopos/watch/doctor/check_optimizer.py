"""Does the optimizer train the model that computes the loss: identities, gradients, the rate, one update."""

from __future__ import annotations

import math
from collections.abc import Iterator
from typing import Any

from loopos.health.doctor.report import FAIL, OK, WARN, Check

from .state import dense
from .subject import SEED, NotApplicable, Subject, listed

RATIO = 0.3  # rms of update over rms of weights; the doctor of our own runs draws its line there too
SMALL = 1e-2  # rms of a matrix that began at 0 and of which a ratio says nothing yet
TINY = 1e-5  # of the largest gradient: rounding of what is 0 (a bias before a batch norm)
USUAL = 1e-3  # a rate: an update at it, or at a higher one, that rounding takes away is that of a gradient near 0
TRIED = 8  # updates that must lower the loss where the first is a large one
AHEAD = 1000  # steps of a scheduler in which a rate of 0 may rise
LOST = 0.5  # share of a matrix's elements whose update is lost to rounding


def holds(subject: Subject) -> Iterator[Check]:
    """Every parameter that wants a gradient is one of the optimizer's, and the optimizer has no others."""
    name = "optimizer holds the model"
    missing = {key: p for key, p in subject.trained.items() if id(p) not in subject.held}
    foreign = [p for key, p in subject.held.items() if key not in subject.names]
    expected = f"all {len(subject.trained)} that want a gradient"
    old = _same_shapes(missing.values(), foreign)
    if missing and old:
        text = (
            f"{len(missing)} parameters are not the optimizer's ({listed(list(missing))}), and {old} of like shape are"
        )
        advice = (
            "the optimizer holds the old tensors: the model was copied, converted, re-wrapped or loaded by assignment "
            "after the optimizer was made; make the optimizer from model.parameters() afterwards"
        )
        yield Check(name, text, expected, FAIL, advice)
    elif missing:
        text = f"{len(missing)} parameters are not the optimizer's: {listed(list(missing))}"
        advice = "they are never trained: hand them to the optimizer, or set requires_grad to False where that is meant"
        yield Check(name, text, expected, FAIL, advice)
    else:
        yield Check(name, f"{len(subject.trained)} of {len(subject.trained)}", expected, OK)
    if foreign and not missing:
        text = f"{len(foreign)} parameters of the optimizer are not the model's"
        advice = (
            "another model shares the optimizer; if none does, this model was re-wrapped after the optimizer was made"
        )
        verdict = FAIL if not subject.trained else WARN
        shared = all(parameter.grad is None for parameter in foreign)
        yield Check("optimizer's other parameters", text, "none, or another model's", verdict if shared else OK, advice)
    owners: dict[int, int] = {}
    for optimizer in subject.optimizers:
        for key in {id(p) for group in optimizer.param_groups for p in group["params"]}:
            owners[key] = owners.get(key, 0) + 1
    twice = [subject.names.get(key, "another model's") for key, count in owners.items() if count > 1]
    if twice:
        advice = "each of them moves it in every step: give each parameter to one optimizer"
        yield Check("one optimizer each", f"several optimizers hold {listed(twice)}", "one", WARN, advice)


def _same_shapes(ours: Any, theirs: Any) -> int:
    """How many of theirs have the shape of one of ours, each used once."""
    shapes = [tuple(parameter.shape) for parameter in ours]
    count = 0
    for parameter in theirs:
        if tuple(parameter.shape) in shapes:
            shapes.remove(tuple(parameter.shape))
            count += 1
    return count


def frozen(subject: Subject) -> Check:
    """What is frozen, and whether what is left can learn anything."""
    from torch import nn

    total = sum(p.numel() for p in subject.parameters.values())
    free = sum(p.numel() for p in subject.trained.values())
    if not total:
        raise NotApplicable("the model has no parameters")
    text, expected = f"{free} of {total} numbers are trained", "more than the scales of norms"
    if not free:
        return Check("frozen", text, "some", FAIL, "every parameter has requires_grad=False: nothing can learn")
    batch_norms = (nn.modules.batchnorm._BatchNorm, nn.GroupNorm, nn.LayerNorm, nn.modules.instancenorm._InstanceNorm)
    scales = all(
        isinstance(subject.module_of(key), batch_norms) or "norm" in type(subject.module_of(key)).__name__.lower()
        for key in subject.trained
    )
    if scales and free < total:
        advice = "all layers but the norms are frozen: was a condition on the parameters' names the wrong way round?"
        return Check("frozen", f"{text}, all of norms", expected, WARN, advice)
    return Check("frozen", text, expected, OK)


def tied(subject: Subject) -> Check:
    """Weights that the model declares as tied are one tensor; an embedding and a head with equal bits are, too."""
    import torch
    from torch import nn

    everyone = dict(subject.model.named_parameters(remove_duplicate=False))
    config = getattr(subject.model, "config", None)
    declared = getattr(subject.model, "_tied_weights_keys", None) or {}
    apart: list[tuple[str, str]] = []
    if getattr(config, "tie_word_embeddings", False) and isinstance(declared, dict):
        pairs = [(one, two) for one, two in declared.items() if one in everyone and two in everyone]
        apart += [pair for pair in pairs if everyone[pair[0]] is not everyone[pair[1]]]
    inputs = {key: p for key, p in everyone.items() if isinstance(subject.module_of(key), nn.Embedding)}
    heads = {key: p for key, p in everyone.items() if isinstance(subject.module_of(key), nn.Linear) and p.ndim == 2}
    for one, first in inputs.items():
        for two, second in heads.items():
            if first is not second and first.shape == second.shape and torch.equal(first, second):
                apart.append((one, two))
    if apart:
        said = listed([f"{one} and {two}" for one, two in dict.fromkeys(apart)])
        advice = (
            "they hold the same numbers or are declared as tied, and are two tensors: one update parts them. Assign "
            "the Parameter itself (head.weight = embedding.weight), after every copy or load (tie_weights())"
        )
        return Check("weights tied", f"not one tensor: {said}", "one tensor each", FAIL, advice)
    shared = len(everyone) - len(subject.parameters)
    return Check("weights tied", f"{shared} names share a tensor with another", "as declared", OK)


def rate(subject: Subject) -> Iterator[Check]:
    """Every group has a rate above 0, or a schedule that raises it; decay does not flip signs."""
    groups = [group for optimizer in subject.optimizers for group in optimizer.param_groups if group["params"]]
    rates = [float(group.get("lr", math.nan)) for group in groups]
    dead = [group for group, each in zip(groups, rates, strict=True) if each == 0 and not group.get("initial_lr")]
    said = listed([f"{each:g}" for each in dict.fromkeys(rates)])
    if any(math.isnan(each) or math.isinf(each) for each in rates):
        yield Check("rate", said, "finite", FAIL, "the learning rate is not a finite number")
    elif dead:
        count = sum(len(group["params"]) for group in dead)
        advice = "nothing is learned at a rate of 0: set it, or call the scheduler that raises it"
        verdict = FAIL if len(dead) == len(groups) else WARN
        yield Check("rate", f"{said}; {count} parameters have a rate of 0", "above 0", verdict, advice)
    elif subject.schedulers and not any(rates) and not _rises(subject):
        advice = "nothing is learned at a rate of 0: is the schedule over, or its factor 0 (an integer division)?"
        yield Check("rate", f"0, and still 0 after {AHEAD} steps of the scheduler", "above 0", FAIL, advice)
    else:
        yield Check("rate", said, "above 0", OK)
    worst = max(
        float(g.get("weight_decay") or 0) * max(float(g["lr"]), float(g.get("initial_lr") or 0)) for g in groups
    )
    if worst > 0.1:
        advice = "rate times weight_decay is the share of a weight that one update takes away; beyond 1 it flips signs"
        yield Check(
            "weight decay",
            f"an update takes {worst:.2g} of a weight",
            "at most 0.1",
            FAIL if worst > 1 else WARN,
            advice,
        )
    for scheduler in subject.schedulers:
        inner = getattr(scheduler, "optimizer", None)
        inner = getattr(inner, "optimizer", inner)
        if inner is not None and all(inner is not optimizer for optimizer in subject.optimizers):
            advice = "it changes a rate that nobody uses: make the scheduler from the optimizer that steps"
            yield Check("scheduler", "it holds another optimizer", "the program's own", FAIL, advice)


def _rises(subject: Subject) -> bool:
    """Whether the schedulers make any rate other than 0 within AHEAD steps; True where that is not known."""
    from torch.optim import lr_scheduler

    inner = [getattr(each, "scheduler", each) for each in subject.schedulers]  # accelerate's waits for the optimizer
    inner = [each for each in inner if type(each).__name__ != "ReduceLROnPlateau"]  # it only lowers
    if not all(isinstance(each, lr_scheduler.LRScheduler) for each in inner):
        return True
    with subject.kept(weights=False):
        for _ in range(AHEAD):
            try:
                for each in inner:
                    each.step()
            except ValueError:  # OneCycleLR at its end
                return False
            if any(group["lr"] for optimizer in subject.optimizers for group in optimizer.param_groups):
                return True
    return False


def reach(subject: Subject) -> Check:
    """After backward every trained parameter has a gradient that is finite and not all zero."""
    run = subject.first()
    name, expected = "gradients reach", f"all {len(subject.trained)} parameters, finite and not all zero"
    if not run.wants:
        advice = (
            "the loss has no graph: .item(), .detach(), .data, numpy, torch.no_grad or argmax lies between the "
            "parameters and it"
        )
        return Check(name, "the loss wants no gradient", expected, FAIL, advice)
    none = [key for key, grad in run.gradients.items() if grad is None]
    bad = [key for key, grad in run.gradients.items() if grad is not None and not grad.isfinite().all()]
    zero = [key for key, grad in run.gradients.items() if grad is not None and grad.numel() and not grad.any()]
    if bad:
        advice = "loopos.watch(model, optimizer).step(...) names the operation and the element where it is born"
        return Check(name, f"not finite in {listed(bad)}", expected, FAIL, advice)
    if zero:
        zero = _still_zero(subject, zero)
    if none:
        unused = [key for key in none if not _called(subject, key)]
        if len(unused) == len(none):
            advice = "their modules are never called: remove them, or call them; an optimizer leaves them as they are"
            return Check(name, f"no gradient in {listed(none)}", expected, WARN, advice)
        cut = [key for key in none if key not in unused]
        advice = "the graph is cut on their way: look for .detach(), .data, torch.no_grad, .item() or a new tensor()"
        return Check(name, f"no gradient in {listed(cut)}, whose modules are called", expected, FAIL, advice)
    if len(zero) == 1 and subject.parameters[zero[0]].ndim < 2:  # a bias whose shares cancel, as of a critic
        return Check(name, f"{len(run.gradients)} of {len(run.gradients)}, {zero[0]} with 0", expected, OK)
    if zero:
        advice = "a dead activation, a factor of 0 or a clamp lies above them: they do not learn from this batch"
        return Check(name, f"all zero in {listed(zero)}", expected, FAIL, advice)
    return Check(name, f"{len(run.gradients)} of {len(run.gradients)}", expected, OK)


def _called(subject: Subject, parameter: str) -> bool:
    """Whether the module of a parameter, or one around it that is no container, was called."""
    called, name = subject.first().seen.called, parameter.rpartition(".")[0]
    return name in called or (not name and "" in called)


def _still_zero(subject: Subject, names: list[str]) -> list[str]:
    """Those that are zero after two updates too: what a zero factor holds back at the start (LoRA) is none of them."""
    with subject.kept():
        subject.model.train()
        for number in range(3):
            run = subject.compute(gradients=True, number=SEED + number)
            names = [key for key in names if run.gradients.get(key) is None or not run.gradients[key].any()]
            if not names:
                break
            for parameter in subject.trained.values():  # of its own, as rates of a warm-up are 0
                if parameter.grad is not None:
                    scale = float(parameter.detach().abs().mean()) + 1e-3
                    gradient = dense(parameter.grad)
                    norm = float(gradient.abs().max())
                    parameter.data.add_(gradient, alpha=-0.1 * scale / norm if norm else 0.0)
    return names


def symmetry(subject: Subject) -> Check:
    """No matrix whose rows are all alike and get gradients that are all alike: they would stay so for ever."""
    run, alike = subject.first(), []
    for key, parameter in subject.trained.items():
        grad = run.gradients.get(key)
        if grad is None or parameter.ndim < 2 or parameter.shape[0] < 2 or not grad.any():
            continue
        if bool((parameter == parameter[:1]).all()) and bool((grad - grad[:1]).abs().max() <= 1e-6 * grad.abs().max()):
            alike.append(key)
    if alike:
        advice = "its units compute the same and learn the same: initialise with random numbers"
        return Check("symmetry", f"rows of {listed(alike)} are equal, and so are their gradients", "none", FAIL, advice)
    return Check("symmetry", "no matrix has units that are all alike", "none", OK)


def _fresh(subject: Subject) -> None:
    """Inside ``kept``: optimizers without a past, at the rate of their schedule."""
    for optimizer in subject.optimizers:
        optimizer.state.clear()
        for group in optimizer.param_groups:
            if not group["lr"] and group.get("initial_lr"):
                group["lr"] = group["initial_lr"]


def _step(subject: Subject) -> None:
    for optimizer in subject.optimizers:
        if type(optimizer).__name__ == "LBFGS":
            raise NotApplicable("LBFGS computes the loss itself")
        optimizer.step()


def updates(subject: Subject) -> Iterator[Check]:
    """One update from a fresh state moves every parameter, by a plausible share, and down the gradient."""
    if not subject.first().wants:
        raise NotApplicable("the loss wants no gradient")
    with subject.kept():
        subject.model.train()
        run = subject.compute(gradients=True)
        _fresh(subject)
        before = {key: p.detach().clone() for key, p in subject.trained.items()}
        _step(subject)
        moved = {key: p.detach().double() - before[key].double() for key, p in _real(subject.trained)}
        rates = {id(p): group["lr"] for o in subject.optimizers for group in o.param_groups for p in group["params"]}
        live = {key: rates.get(id(p), 0.0) > 0 for key, p in subject.trained.items()}
        rate = {key: max(float(rates.get(id(p), 0.0)), USUAL) for key, p in subject.trained.items()}
    grads = {key: grad for key, grad in run.gradients.items() if grad is not None and grad.any() and key in moved}
    most = max((float(grad.abs().max()) for grad in grads.values()), default=0.0)
    stuck = [
        key
        for key, grad in grads.items()
        if live[key]
        and not moved[key].any()
        and id(subject.parameters[key]) in subject.held
        and float(grad.abs().max()) > TINY * most
        and not _rounded_away(before[key], grad, rate[key])
    ]
    low = [key for key in stuck if subject.parameters[key].dtype.itemsize < 4]
    if stuck:
        advice = (
            "the optimizer does not use their gradient: another optimizer's tensors, a step that is skipped, or eps"
        )
        if len(low) == len(stuck):
            advice = (
                f"updates are lost in {subject.parameters[low[0]].dtype}: keep the weights in float32, use autocast"
            )
        yield Check("updates", f"{listed(stuck)} stay as they are", "every parameter moves", FAIL, advice)
    else:
        yield Check("updates", f"{len(grads)} of {len(grads)} parameters move", "every parameter moves", OK)
    lost = {key: float((moved[key] == 0)[grads[key] != 0].double().mean()) for key in grads if key not in stuck}
    lost = {key: share for key, share in lost.items() if share > LOST and subject.parameters[key].dtype.itemsize < 4}
    if lost:
        key = max(lost, key=lost.__getitem__)
        advice = f"the update is below the rounding of {subject.parameters[key].dtype}: keep the weights in float32"
        text = f"{lost[key]:.0%} of {key} does not move although it has a gradient"
        yield Check("updates are not rounded away", text, f"at most {LOST:.0%}", WARN, advice)
    sizes = {key: float(before[key].double().pow(2).mean().sqrt()) for key in moved if before[key].ndim > 1}
    ratios = {key: float(moved[key].pow(2).mean().sqrt()) / size for key, size in sizes.items() if size > SMALL}
    if ratios and max(ratios.values()) > RATIO and not _settles(subject):
        key = max(ratios, key=ratios.__getitem__)
        advice = "the rate rewrites the weights rather than adjusting them: lower it, by 10 at least"
        yield Check("size of an update", f"{ratios[key]:.2g} of {key}", f"at most {RATIO:g}", WARN, advice)
    down = sum(float((grads[key].double() * moved[key]).sum()) for key in grads)
    rises = all(group.get("maximize") for each in subject.optimizers for group in each.param_groups) and run.loss < 0
    if grads and not stuck and down > 0 and not rises:  # a log-likelihood is maximized
        advice = (
            "the loss rises by it to first order: maximize=True, a loss with the wrong sign, or a "
            "decay that outweighs it"
        )
        yield Check("direction", f"gradient times update is {down:.3g}", "below 0", FAIL, advice)


def _rounded_away(weight: Any, grad: Any, rate: float) -> bool:
    """Whether the gradient is so small that its update is lost in float32 or float64: what has converged."""
    import torch

    if weight.dtype.itemsize < 4:
        return False
    least = torch.finfo(weight.dtype).eps * weight.detach().abs()
    return bool((rate * grad.abs() <= least)[grad != 0].all())


def _settles(subject: Subject) -> bool:
    """Whether TRIED updates in a row leave the loss below that of the start and kill no parameter's gradient: then a
    large first one is right. Those of plain SGD shrink with the gradients, so that the first decides; those of other
    rules keep their size."""
    import torch

    plain = all(type(each) is torch.optim.SGD and not each.defaults["momentum"] for each in subject.optimizers)
    with subject.kept():
        subject.model.train()
        before = run = subject.compute(gradients=True)
        _fresh(subject)
        for _ in range(1 if plain else TRIED):
            _step(subject)
            run = subject.compute(gradients=True)
            if not run.loss < before.loss:
                return False
    alive = [key for key, grad in before.gradients.items() if grad is not None and grad.any()]
    return all(bool(run.gradients[key].any()) for key in alive)


def _real(parameters: dict[str, Any]) -> list[tuple[str, Any]]:
    return [(key, parameter) for key, parameter in parameters.items() if not parameter.is_complex()]


def survives(subject: Subject) -> Check:
    """A step without gradients changes nothing that later steps need."""
    if not subject.first().wants:
        raise NotApplicable("the loss wants no gradient")
    name, ends = "update without gradients", []
    for pause in (False, True):
        with subject.kept():
            subject.model.train()
            _fresh(subject)
            for _ in range(2):
                subject.compute(gradients=True)
                _step(subject)
                if pause:
                    for parameter in subject.model.parameters():
                        parameter.grad = None
                    _step(subject)
                    pause = False
            ends.append({key: p.detach().clone() for key, p in subject.trained.items()})
    with subject.kept():
        subject.model.train()
        _fresh(subject)
        subject.compute(gradients=True)
        _step(subject)
        once = {key: p.detach().clone() for key, p in subject.trained.items()}
    plain, paused = ends
    stopped = [key for key in once if not plain[key].equal(once[key]) and paused[key].equal(once[key])]
    if stopped:
        advice = (
            "after a step in which gradients were None the optimizer no longer updates: its count or its graph stuck"
        )
        return Check(name, f"{listed(stopped)} stay as they are in the step after it", "they move", FAIL, advice)
    return Check(name, "the step after it updates as usual", "they move", OK)
