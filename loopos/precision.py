"""What a model computes in, how exact its products are, and what its weights are stored as: one object decides which
combinations make sense.

The model, training, the optimizers, the doctor, files and the command line ask here; nothing else compares a dtype with
a storage or with a precision.
"""

from __future__ import annotations

import os
from dataclasses import dataclass, replace
from typing import Any, NamedTuple

from . import _core, checks
from .config import ModelConfig

DTYPES = ("float32", "float64")
PRECISIONS = ("float32", "bf16x3", "bf16")  # of the products of float32 arithmetic
UNITS = {"float32": 2.0**-23, "bf16x3": 2.0**-17, "bf16": 2.0**-8}  # the relative error of a factor, or of a sum
VARIABLE = "LOOPOS_PRECISION"  # the one that stands where none is given


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
_MEANT = {  # names that others have for a precision
    "bfloat16": "bfloat16 products with float32 sums are 'bf16'",
    "float16": "float16 overflows at 65504; in as many bytes 'bf16' has the range of float32",
    "fp16": "float16 overflows at 65504; in as many bytes 'bf16' has the range of float32",
    "fp32": "'float32' is the default",
    "highest": "torch's 'highest' is 'float32'",
    "high": "torch's 'high' is nearest to 'bf16x3'",
    "medium": "torch's 'medium' is 'bf16'",
    "tf32": "'bf16x3' is nearer to float32 than TF32",
    "float64": "float64 is a dtype: dtype='float64'",
}
_NARROW = {"float16", "fp16", "half", "f16", "bfloat16", "bf16", "float8", "fp8", "int8", "int4"}


@dataclass(frozen=True)
class Arithmetic:
    """dtype: "float32" or "float64", of the arithmetic, and of whatever can be trained. weights: what the projections
    and the token table are stored as, the dtype itself or a storage of fewer bytes, which is frozen. precision: how
    exactly the factors of a product are taken at least. Products of float64 arithmetic are float64: better than any
    asks."""

    dtype: str
    weights: str
    precision: str = "float32"

    @classmethod
    def of(cls, function: str, dtype: Any, weights: Any = None, precision: Any = None) -> Arithmetic:
        """weights None: the dtype. precision None: what LOOPOS_PRECISION says, or float32. ValueError for a combination
        that makes no sense, TypeError for what is no name."""
        dtype = _arithmetic(function, dtype, weights)
        weights = dtype if weights is None else cls._checked(function, dtype, weights)
        if precision is None:
            return cls(dtype, weights, usual(function) if dtype == "float32" else "float32")
        return cls(dtype, weights).with_precision(function, precision)

    @staticmethod
    def _checked(function: str, dtype: str, weights: Any) -> str:
        weights = _storage(function, weights)
        if dtype != "float32":
            why = "what is stored small has" if weights in SMALL else "float32 has"
            raise ValueError(
                f"{function}: weights={weights!r} goes with dtype='float32', got dtype={dtype!r}: {why} no digits that "
                "float64 arithmetic could keep. Leave weights out for a float64 model"
            )
        return weights

    def with_precision(self, function: str, precision: Any) -> Arithmetic:
        """The same with another precision. Errors as of :meth:`of`."""
        return replace(self, precision=checked(function, precision))

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


def checked(function: str, precision: Any) -> str:
    """``precision`` where it is the name of one. ValueError, or TypeError for what is no name."""
    if isinstance(precision, str) and (meant := _MEANT.get(precision.removeprefix("torch."))):
        names = ", ".join(map(repr, PRECISIONS))
        raise ValueError(f"{function}: precision must be one of {names}, got {precision!r}; {meant}")
    return checks.choice(function, "precision", precision, PRECISIONS)


def usual(function: str) -> str:
    """The precision of what is given none: LOOPOS_PRECISION, or float32. ValueError where that is no name of one."""
    asked = os.environ.get(VARIABLE) or "float32"
    if asked not in PRECISIONS:
        where = f"{function}: " if function else ""
        raise ValueError(f"{where}{VARIABLE}={asked!r}: expected {', '.join(PRECISIONS[:-1])} or {PRECISIONS[-1]}")
    return asked


def products_here() -> dict[str, str]:
    """What each precision is computed with in this process."""
    return {each: str(_core.products(each)) for each in PRECISIONS}


def why_no_tiles() -> str:
    """Why products are not computed on matrix tiles here, in a sentence; "" where they are."""
    return str(_core.products_info()["why"])


def in_words(precision: str, products: str) -> str:
    """What was asked for, what stands for it here, and why that is not tiles where they would."""
    why = why_no_tiles() if precision != "float32" and products == "fma" else ""
    better = f": float32, better than asked ({why})" if why else ""
    return f"precision {precision}, products computed with {products}{better}"


def same_bits(a: str, b: str) -> bool:
    """Whether two kinds of products give the same bits: emulated tiles give those of tiles."""
    return _without_place(a) == _without_place(b)


def _without_place(products: str) -> str:
    return products.removeprefix("tiles ").removeprefix("emulated ")


def small(weights: str) -> str | None:
    """``weights`` where that is a small storage, None for a model whose weights are parameters."""
    return weights if weights in SMALL else None


def refuse_training(function: str, model: Any) -> None:
    """ValueError for a model whose weights are stored small, as long as nothing of it is trainable. Other people's
    models have no arithmetic of ours, and all of them train."""
    arithmetic = getattr(model, "arithmetic", None)
    if isinstance(arithmetic, Arithmetic) and not model.parameters(trainable=True):
        arithmetic.refuse_training(function)


def to_read(function: str, dtype: Any, weights: Any, precision: Any = None) -> str | None:
    """The dtype to open a folder with, None for that of its file: a storage is asked for in terms of float32, whatever
    the file holds. Refuses before anything is read what no file could make sense of."""
    check_read(function, dtype, weights)
    if dtype is None:
        asked = Arithmetic.of(function, "float32", weights, precision)
        return None if weights is None else asked.dtype
    return Arithmetic.of(function, dtype, weights, precision).dtype


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
        f": arithmetic{base} is float32, for float16 overflows at 65504 and bfloat16 has 8 binary digits. For products "
        "of bfloat16 factors, leave dtype out and pass precision='bf16'. To hold a frozen model in fewer bytes, leave "
        f"it out and pass weights={' or '.join(map(repr, SMALL))}"
    )


def _storage(function: str, weights: Any) -> str:
    if isinstance(weights, str) and weights == "float16":
        raise ValueError(
            f"{function}: weights='float16' is not a storage here: it ends at 65504. In the same bytes bfloat16 has "
            "the range of float32; pass weights='bfloat16'"
        )
    return checks.choice(function, "weights", weights, WEIGHTS)


try:
    usual("")
except ValueError as error:  # at import, as the core refuses its own variables
    raise ImportError(str(error)) from None
