"""What a name in a log stands for, whatever trainer wrote it: ``train/CrossEntropyLoss``, ``Val. Loss``, ``gnorm``.

A name is cut into tokens at ``/ . _ -``, blanks and camel case. Its noun (loss, norm, rate, step ...) says which
quantity it is; the others say of which data (train, val ...), over what (step, epoch, running average) and which part
(a ``box_loss`` is one of several). Words such as best, max and weight make it no measurement at all.
"""

from __future__ import annotations

import re
from functools import lru_cache
from typing import NamedTuple

LOSS, HELD_OUT = "loss", "eval_loss"
CLOCKS = ("step", "epoch")
OTHER = "other"  # a norm, kept under its own name


class Name(NamedTuple):
    """quantity: a canonical name, or OTHER; label: the column it is in (several may be of one quantity); rank: the
    lower, the likelier that column is the quantity itself and no part or mean of it; perplexity: the value is exp of
    the quantity."""

    quantity: str
    label: str
    rank: int = 0
    perplexity: bool = False

    @property
    def is_loss(self) -> bool:
        return self.quantity in (LOSS, HELD_OUT)


def words_of(text: str) -> frozenset[str]:
    return frozenset(text.split())


TRAIN = words_of("train trn tr training trainer")
HELD = words_of(
    "val valid vld cv validation validate validating eval evaluation evaluate evaluating evaluator test testing dev "
    "heldout holdout"
)
_STEP = words_of("step batch iter iteration micro minibatch")
_MEAN = words_of("avg average averaged mean running smooth smoothed ema moving median")
_KIND = words_of("nll ce cross entropy xent mlm clm")
_PLAIN = words_of(
    "total overall sum global current cur curr raw lm model language token per nats sft causal log unscaled "
    "reduced metrics metric stats perf optim optimizer objective final"
)
_KNOWN = TRAIN | HELD | _STEP | _MEAN | _KIND | _PLAIN | {"epoch", "out"}
NO_MEASUREMENT = words_of(  # settings, records and clocks on the wall
    "best min max minimum maximum lowest highest patience threshold tol tolerance delta target limit weight weights "
    "coef coeff coefficient fn func function type ratio std var variance change improvement improved decreased "
    "increased reduction init initial prev previous expected clip clipped clipping decay warmup schedule scheduler "
    "factor mult multiplier interval every freq frequency window time seconds sec spike lambda peak "
    "filter history curve plot computation eta mfu tps throughput speed it s remaining elapsed baseline early stop"
)
_ARTICLES = words_of("a an the this that its our your and with of in at on for to is was has info warning debug error")
_POINTING = words_of("the its their this that our your")  # "its norm" names no quantity
_FUSED = re.compile(  # words that are written as one
    r"(train|trn|tr|training|val|valid|validation|eval|test|dev|total|avg|mean|batch|epoch|step|running|lm|ce|nll|mlm|g"
    r"|grad|gradient|global|log|mlog)(loss|norm|ppl|perplexity|acc|step|nll)"
)
_SAME = {"losses": "loss", "held": "heldout"}
_TOKEN = re.compile(r"[A-Z]+(?=[A-Z][a-z])|[A-Z]?[a-z]+|[A-Z]+|[0-9]+|[^\W\d_]+")
_SOURCE = re.compile(
    r"\.(?:py|pyx|cu|cuh|c|cc|cpp|cxx|h|hpp|rs|go|jl|js|ts|java|swift|ipynb)$"
)  # a line number follows
_EAST = dict(
    pair.split("=")
    for pair in sorted(
        words_of(
            "训练=train 訓練=train 验证=val 驗證=val 検証=val 测试=test 評価=eval 评估=eval 损失=loss 損失=loss "
            "学习率=lr 学習率=lr 梯度范数=gnorm 困惑度=perplexity 步数=step 步=step 轮次=epoch 轮=epoch 平均=mean"
        ),
        key=len,
        reverse=True,
    )
)
_PLAIN_NAMES = [  # of the tokens of a whole name, joined by blanks
    (quantity, re.compile(rf"(?:(?:{'|'.join(sorted(before))}) )*(?:{pattern})"))
    for quantity, before, pattern in (
        ("skipped_iterations", words_of("number num of total"), "skipped (?:iterations|iters|steps|batches|updates)"),
        ("nan_iterations", words_of("number num of total"), "nan (?:iterations|iters|steps|batches|updates)"),
        ("nonfinite", {"nonfinite"}, "nonfinite"),
        ("loss_scale", _PLAIN | TRAIN | {"dynamic"}, "loss scale|grad scale|scaler scale"),
        ("valid_tokens", words_of("num number of"), "valid tokens"),
        ("vocab_size", words_of("padded model"), "(?:vocab|vocabulary) size|n vocab"),
        ("accuracy", TRAIN | HELD | _MEAN | _PLAIN | _STEP, "(?:acc|accuracy)(?: train)?"),
        (
            "step",
            TRAIN | words_of("global current cur optimizer opt num update"),
            "step|iter|iteration|iters|iterations",
        ),
        ("step", words_of("current global"), "(?:current|global) steps|num updates"),
        ("epoch", TRAIN | HELD | words_of("current cur"), "epoch"),
    )
]
_LR = re.compile(rf"(?:(?:{'|'.join(sorted(TRAIN | _PLAIN))}) )*(?:learning rate|lr)(?P<more>(?: \w+){{0,4}})")
_NORM = re.compile(
    r"(?P<before>(?:\w+ )*?)(?:(?:grad|grads|gradient|gradients|g)(?: (?:total|global|l2|2|0))* norm|(?:global|total) "
    r"norm)(?P<more>(?: \w+)*)"
)
_METRIC = re.compile(
    r"(?P<more>.*?)(?P<noun>ce|nll|xent|cross entropy|mse|rmse|mae|bce|cost|objective|criterion|deviance|elbo|bpb|bpc"
    r"|bits per (?:byte|char|character)|neg(?:ative)? log likelihood|(?P<error>err|error))"
    rf"(?P<split>(?: (?:{'|'.join(sorted(TRAIN | HELD))}))?)"
)


@lru_cache(8192)
def tokens(word: str) -> tuple[str, ...]:
    """Of one word, in lower case: ("train", "cross", "entropy", "loss")."""
    if not word.isascii():
        for east, west in _EAST.items():
            word = word.replace(east, f" {west} ")
    found: list[str] = []
    for token in _TOKEN.findall(word[:120]):
        low = token.lower()
        fused = _FUSED.fullmatch(low)
        found += fused.groups() if fused else (_SAME.get(low, low),)
    return tuple(found)


@lru_cache(8192)
def name_of(words: tuple[str, ...], held_out: bool = False) -> Name | None:
    """What the words before a number name; None when they name nothing that is known. Only their end counts: "at last
    the train loss" is the train loss. held_out: what a heading says of a loss whose name does not."""
    if words and _SOURCE.search(words[-1]):
        return None  # Loss.cu:250
    parts = [tokens(word) for word in words]
    for start in range(max(0, len(parts) - 5), len(parts)):
        found = _matched(tuple(token for part in parts[start:] for token in part), start == len(parts) - 1, held_out)
        if found is None:
            continue
        before = parts[start - 1] if start else ()
        if NO_MEASUREMENT & set(before):
            return None
        if found.is_loss and before and not _ARTICLES & set(before):  # "KL loss" beside "value loss"
            quantity = HELD_OUT if HELD & set(before) else found.quantity
            return Name(quantity, f"{' '.join(before)} {found.label}", found.rank + 6, found.perplexity)
        return found
    if len(words) > 1 and words[-1].lower() == "norm" and not (NO_MEASUREMENT | _POINTING) & set(parts[-2]):
        return Name(OTHER, f"{words[-2]} {words[-1]}")
    return None


def _matched(found: tuple[str, ...], one_word: bool, held_out: bool) -> Name | None:
    if found[-2:] == ("loss", "value"):
        found = found[:-1]
    label, kinds = " ".join(found), set(found)
    for quantity, pattern in _PLAIN_NAMES:
        if pattern.fullmatch(label):
            return Name(quantity, quantity)
    if kinds & NO_MEASUREMENT or not found:
        return None
    if match := _LR.fullmatch(label):
        more = match["more"].split()
        return Name("learning_rate", "learning_rate", len(more)) if one_word or not more else None
    if match := _NORM.fullmatch(label):
        rest = {*match["before"].split(), *match["more"].split()} - _KNOWN
        if not rest or (one_word and not match["more"]):
            return Name("grad_norm", "grad_norm", len(rest))
        return None
    held = bool(kinds & HELD) or (held_out and not kinds & TRAIN)
    quantity = HELD_OUT if held else LOSS
    unknown = kinds - _KNOWN - {"loss"}
    rank = 2 * ("epoch" in kinds) + bool(kinds & _MEAN) + bool(kinds & _KIND) + ("test" in kinds) + 6 * bool(unknown)
    plain_label, label = label, f"held out {label}" if held_out and not kinds & HELD else label
    if "loss" in kinds:
        return Name(quantity, label, rank) if one_word or not unknown else None
    if found[-1] in ("ppl", "perplexity") and not unknown - {"ppl", "perplexity"}:
        return Name(quantity, label, rank + 10, perplexity=True)
    if (match := _METRIC.fullmatch(plain_label)) and set(match["more"].split()) <= _KNOWN:
        if match["error"] and not kinds & (TRAIN | HELD):
            return None  # "error: 404"
        return Name(quantity, label, 8 + 2 * ("epoch" in kinds))
    return None
