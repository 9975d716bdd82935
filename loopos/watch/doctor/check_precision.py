"""The precision that was asked for is used where it was asked for, and the weights can hold their updates."""

from __future__ import annotations

from loopos.health.doctor.report import FAIL, OK, WARN, Check

from .subject import Subject, listed


def precision(subject: Subject) -> Check:
    import torch

    seen, name = subject.first().seen, "precision"
    half = [key for key, p in subject.trained.items() if p.dtype == torch.float16]
    if half:
        eps = [float(g["eps"]) for o in subject.optimizers for g in o.param_groups if "eps" in g]
        why = f", and eps {min(eps):g} is 0 in it" if eps and min(eps) < 6e-8 else ""
        advice = "keep the weights in float32 and use torch.autocast with a GradScaler"
        text = f"{len(half)} trained parameters are float16{why}"
        return Check(name, text, "float32 weights", FAIL if why else WARN, advice)
    inside = [(where, dtype) for where, dtype, on in seen.products if on]
    if not inside:
        kinds = {str(dtype).removeprefix("torch.") for _, dtype, _ in seen.products}
        return Check(name, f"products in {listed(sorted(kinds)) or 'none'}, no autocast", "as the weights", OK)
    low = [where for where, dtype in inside if dtype.itemsize < 4]
    wide = sorted({where or "the model itself" for where, dtype in inside if dtype == torch.float32})
    expected = "every product within autocast in its precision"
    if not low:
        advice = (
            "autocast is on and no product is made in its precision: is the dtype float32, or are "
            "operations of your own unknown to it?"
        )
        return Check(name, f"none of {len(inside)} products", expected, WARN, advice)
    if wide:
        advice = (
            "autocast does not know this operation (a custom op or autograd function): cast by hand, or register it"
        )
        return Check(name, f"float32 in {listed(wide)}, within autocast", expected, WARN, advice)
    return Check(name, f"{len(low)} products in {str(inside[0][1]).removeprefix('torch.')}", expected, OK)
