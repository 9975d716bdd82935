"""What a model computes in, and what its weights are stored as: one object decides which combinations make sense.

The model, training, the optimizers, the doctor, files and the command line ask here; nothing else compares a dtype with
a storage.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any, NamedTuple

from . import checks
from .config import ModelConfig

DTYPES = ("float32", "float64")


class Small(NamedTuple):
    """A storage of fewer bytes than the arithmetic. kind: of the projections, as the core names it. projection, table:
    32nds of a byte that a number takes, with its share of a scale; the token table and the head are int8 where the
    projections have 4 bits (table_storage of the core)."""

    kind: str
    projection: int
    table: int


SMALL = {
    "bfloat16": Small("bfloat16", 64, 64),
    "int8": Small("int8", 34, 34),
    "int4": Small("nf4", 17, 34),
    "int4-symmetric": Small("int4-symmetric", 18, 34),
}
WEIGHTS = ("float32", *SMALL)
_WITH_GRADIENT = {"float32": 2 * 4 * 32, "float64": 2 * 8 * 32}  # 32nds of a byte
_NARROW = {"float16", "fp16", "half", "f16", "bfloat16", "bf16", "float8", "fp8", "int8", "int4"}


@dataclass(frozen=True)
class Precision:
    """dtype: "float32" or "float64", of the arithmetic, and of whatever can be trained. weights: what the projections
    and the token table are stored as, the dtype itself or a storage of fewer bytes, which is frozen."""

    dtype: str
    weights: str

    @classmethod
    def of(cls, function: str, dtype: Any, weights: Any = None) -> Precision:
        """weights None: the dtype. ValueError for a combination that makes no sense, TypeError for what is no name."""
        dtype = _arithmetic(function, dtype, weights)
        if weights is None:
            return cls(dtype, dtype)
        weights = _storage(function, weights)
        if dtype != "float32":
            why = "what is stored small has" if weights in SMALL else "float32 has"
            raise ValueError(
                f"{function}: weights={weights!r} goes with dtype='float32', got dtype={dtype!r}: {why} no digits that "
                "float64 arithmetic could keep. Leave weights out for a float64 model"
            )
        return cls(dtype, weights)

    @property
    def kind(self) -> str | None:
        """The storage of the projections in the core; None for a model whose weights are parameters."""
        return SMALL[self.weights].kind if self.weights in SMALL else None

    def bytes(self, config: ModelConfig) -> int:
        """Of the weights and of the gradients of those that can be trained. Exact: it may exceed what C++ can hold."""
        own_head = not config.tie_embeddings and not config.labels  # a head of classes is none of the tables
        tables = config.vocab_size * config.d_model * (2 if own_head else 1)
        others = config.num_parameters() - tables
        if self.weights in SMALL:
            small = SMALL[self.weights]
            return (small.table * tables + small.projection * others) // 32
        return _WITH_GRADIENT[self.dtype] * (tables + others) // 32

    def refuse_training(self, function: str) -> None:
        """ValueError where the weights are stored small: they are frozen."""
        if self.weights in SMALL:
            raise ValueError(
                f"{function}: the weights of this model are stored as {self.weights} and frozen, so only adapters can "
                "be trained on it, and it has none; to train the weights, open the model with weights='float32'"
            )

    def refuse_saving(self, function: str) -> None:
        """ValueError where what is stored lacks what the file of another tool should have: all but bfloat16."""
        if self.weights in SMALL and self.weights != "bfloat16":
            raise ValueError(
                f"{function}: the weights of this model are stored as {self.weights}, and what is saved would hold "
                "what that left of the numbers. Open the original with weights='bfloat16' or 'float32' and save that"
            )


def small(weights: str) -> str | None:
    """``weights`` where that is a small storage, None for a model whose weights are parameters."""
    return weights if weights in SMALL else None


def refuse_training(function: str, model: Any) -> None:
    """ValueError for a model whose weights are stored small, as long as nothing of it is trainable. Other people's
    models have no precision, and all of them train."""
    precision = getattr(model, "precision", None)
    if isinstance(precision, Precision) and not model.parameters(trainable=True):
        precision.refuse_training(function)


def to_read(function: str, dtype: Any, weights: Any) -> str | None:
    """The dtype to open a folder with, None for that of its file: a storage is asked for in terms of float32, whatever
    the file holds. Refuses before anything is read."""
    check_read(function, dtype, weights)
    if dtype is None:
        return None if weights is None else Precision.of(function, "float32", weights).dtype
    return Precision.of(function, dtype, weights).dtype


def check_read(function: str, dtype: Any, weights: Any = None) -> None:
    """ValueError unless ``dtype`` is one to open a folder with, or None."""
    if dtype is not None and (not isinstance(dtype, str) or dtype not in DTYPES):
        why = _why_not(dtype, weights)
        raise ValueError(f"{function}: dtype must be 'float32', 'float64' or None, got {checks.shown(dtype)}{why}")


def _arithmetic(function: str, dtype: Any, weights: Any) -> str:
    if isinstance(dtype, str) and (why := _why_not(dtype, weights)):
        raise ValueError(f"{function}: dtype must be one of 'float32', 'float64', got {checks.shown(dtype)}{why}")
    return checks.choice(function, "dtype", dtype, DTYPES)


def _why_not(dtype: Any, weights: Any) -> str:
    """Why nothing is computed in a narrow type, and what does what is wanted; "" of anything else."""
    if str(dtype).removeprefix("torch.") not in _NARROW:
        return ""
    base = f" on weights that are stored as {weights}" if isinstance(weights, str) and weights in SMALL else ""
    return (
        f": arithmetic{base} is float32, for float16 overflows at 65504 and bfloat16 has 8 binary digits. To hold a "
        f"frozen model in fewer bytes, leave dtype out and pass weights={' or '.join(map(repr, SMALL))}"
    )


def _storage(function: str, weights: Any) -> str:
    if isinstance(weights, str) and weights == "float16":
        raise ValueError(
            f"{function}: weights='float16' is not a storage here: it ends at 65504. In the same bytes bfloat16 has "
            "the range of float32; pass weights='bfloat16'"
        )
    return checks.choice(function, "weights", weights, WEIGHTS)
