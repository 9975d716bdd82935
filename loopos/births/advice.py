"""What to do next, by the class of a cause."""

from __future__ import annotations

_ADVICE = {
    "exp overflow": "subtract the row's maximum before exp",
    "product overflow": "look at the larger factor: if it is a weight or an activation that grew over many steps "
    "(loopos.trace_step shows each layer), lower the learning rate or clip gradients; if it was large from the start, "
    "the data or the initialisation made it so",
    "sum overflow": "the terms are finite but too large: look at how they grew over the steps before "
    "(loopos.trace_step), lower the learning rate, or check the scale of the data and the initialisation",
    "norm overflow": "gradients of this size are no direction to follow: look for the tensor with the largest one "
    "(loopos.trace_step), and at the batch",
    "inf - inf": "find the two numbers that overflowed: loopos.trace_step shows the tensors before this one",
    "0*inf": "one factor overflowed and the other vanished: find what made the first so large (loopos.trace_step)",
    "0/0": "give the optimizer an eps above 0, or do not step parameters that have no gradient",
    "x/0": "keep the denominator above 0: add an eps to it, or leave out what has nothing to divide by",
    "log 0": "a probability of exactly 0 was scored: compute the loss from logits",
    "negative root": "a variance or second moment below 0 was written or loaded: check where it came from",
    "outside the domain": "keep the argument where the function is defined: clamp it, or look at what carried it there",
    "cast overflow": "the number fits the wider dtype and not this one: scale it down before the cast, use bfloat16 "
    "instead of float16, or leave this operation in float32",
    "all-masked row": "give every row at least one key it may attend to",
    "label out of range": "compare the labels with vocab_size; targets that are to be left out are -100",
    "input not finite": "check what was handed in; the engine had no part in it",
    "weight not finite": "find who wrote it: loading, own code between steps, or an update of another program; restore "
    "the weights from an earlier checkpoint",
    "learning rate too large": "lower the learning rate (by 10 at least), lengthen the warm-up, and clip gradients; "
    "go on from a checkpoint before the weights grew",
    "weight decay too large": "lower weight_decay: rate times weight_decay is the share of a weight that an update "
    "takes away, and beyond 2 it makes weights grow; go on from a checkpoint before they grew",
    "eps floor active": "rows whose variance is below eps hold no signal, and eps alone sets their scale: look at why "
    "they are constant (dead or saturated features, an embedding that is all alike); a larger eps lowers the gain",
    "unknown": "repeat the step (loopos.replay, if there is a bundle): if it is healthy then, suspect memory or the "
    "processor; else report it with the bundle",
}


# Of a PyTorch program, which has no trace of ours to look at.
_WATCHED = {
    "product overflow": "look at the larger factor: if it grew over many steps, lower the learning rate or clip "
    "gradients; if it was large from the start, the data or the initialisation made it so",
    "sum overflow": "the terms are finite but too large: check the scale of the data and of the initialisation, lower "
    "the learning rate",
    "norm overflow": "look for the largest gradient, and at the batch",
    "inf - inf": "find the two infinities: a number that overflowed, or one that the program wrote as a constant",
    "0*inf": "multiply nothing that is infinite: choose with torch.where instead of multiplying by a mask of 0 and 1",
    "0/0": "keep the denominator above 0: add an eps to it, or leave out what has nothing to divide",
    "log 0": "compute the loss from logits (cross_entropy, binary_cross_entropy_with_logits), or add an eps",
    "negative root": "keep what stands under the root above 0: clamp it, or compute variances in two passes",
    "input not finite": "check the batch before it is used; nothing of the model had a part in it",
    "unknown": "repeat it: if the operation gives a finite number for the same operands, suspect memory or the kernel",
}


_ROOT = (
    "the slope of a root is infinite at 0: add an eps under the root, or take torch.linalg.vector_norm, whose gradient "
    "at 0 is 0"
)
_POWER = "the slope of a power below 1 is infinite at 0: add an eps to its base"
_ARC = "its slope is infinite at the end of its domain: clamp the argument to a little inside (1 - 1e-6)"
_SPECTRUM = (
    "the gradient of singular vectors and eigenvectors is not defined where two of their values are equal: use the "
    "values alone (svdvals, eigvalsh), or part them by a little noise"
)
_UNTAKEN = (
    "nothing comes of 0 there, also where torch.where or a mask leaves it out, for a gradient of 0 times an infinite "
    "slope is NaN: make the argument harmless before the operation, torch.where(x > 0, x, 1)"
)
_OF_OPERATIONS = {  # of a PyTorch program, by a part of the operation's name or of the node it is the backward of
    ("log 0", "ctc_loss"): "give an input more frames than its target needs (its labels, and one more between two that "
    "are equal), leave such samples out, or set zero_infinity=True",
    ("negative root", "batch_norm"): "a running variance is never below 0: find who wrote or loaded it",
    ("log 0", "slogdet"): "keep the matrix regular: add a small multiple of the identity",
    ("0/0", "weight_norm"): "a row of zeros has no direction: initialise it with random numbers",
    (
        "0/0",
        "aten.std",
    ): "a deviation needs two numbers: correction=0, or leave out a last batch of one (drop_last=True)",
    (
        "0/0",
        "aten.var",
    ): "a variance needs two numbers: correction=0, or leave out a last batch of one (drop_last=True)",
    ("0/0", "nll_loss"): "leave a batch out of which no label counts",
    **{(kind, node): _SPECTRUM for kind in ("x/0", "0/0") for node in ("LinalgSvd", "LinalgEig", "LinalgEigh")},
    **{(kind, "SqrtBackward"): _ROOT for kind in ("x/0", "0/0")},
    **{("x/0", node): _ARC for node in ("AcosBackward", "AsinBackward", "AcoshBackward", "AtanhBackward")},
    ("x/0", "PowBackward"): _POWER,
    ("outside the domain", "PowBackward"): "an exponent that is learned needs a base above 0: clamp the base",
    ("log 0", "PowBackward"): "an exponent that is learned needs a base above 0: clamp the base",
    ("0/0", "Backward"): _UNTAKEN,
    ("0*inf", "Backward"): _UNTAKEN,
}


def advice(kind: str, op: str, tensor: str, *, watched: bool = False) -> str:
    """A sentence, without a full stop. watched: of a program of PyTorch."""
    said = next((said for (each, part), said in _OF_OPERATIONS.items() if each == kind and part in op), None)
    if watched and said is not None:
        return said
    if watched and kind in _WATCHED:
        return _WATCHED[kind]
    if kind == "product overflow" and tensor.endswith(".scores"):
        return (
            "queries and keys have grown too large for their product: lower the learning rate, or decay their weights; "
            "loopos.trace_step shows the scores of each layer"
        )
    if kind == "sum overflow" and op == "accumulate":
        return "take fewer or smaller micro-batches, or look at why each one's gradient is so large (loopos.trace_step)"
    return _ADVICE[kind]
