"""What a network of snapshots is made of, and what is made of what it gives: a frozen dataclass, each field checked."""

from __future__ import annotations

import math
from collections.abc import Mapping
from dataclasses import dataclass, fields
from typing import Any, Literal

from loopos import checks
from loopos.choices import ACTIVATIONS, NORMS, ActivationName
from loopos.config import ModelConfig
from loopos.model import for_core as blocks_for_core

from . import beams

PREDICTIONS = ("factor", "unconstrained", "powers")
MATRICES = ("snapshots", "pred", "samp", "blend")  # what can be normalised
LOSSES = ("frobenius", "normalized_frobenius", "stein", "affine_invariant", "subspace")


@dataclass(frozen=True)
class CovarianceConfig:
    """Snapshots (B, L, N) become rows of real and imaginary parts; a linear layer, blocks in which every snapshot sees
    all of its sample, a norm, the mean over L and a linear layer give the numbers of R_pred. Snapshots can be
    exchanged, so there are no positions. With ``prediction="powers"`` there is a row for each beam of a uniform array
    in place of each snapshot (:mod:`loopos.covariance.beams`): every beam sees all others, no mean is taken, and each
    row gives the powers of the directions inside its beam. Then, in :func:`loopos.covariance.pipeline`,

        R_blend = (1 - beta) R_pred + beta R_samp + loading I

    elements     N, sensors of the array
    n_layer, n_head, d_model, d_ff, norm, activation, bias, dropout, norm_eps: as of a :class:`loopos.ModelConfig`
    prediction   "factor": R_pred = F Fᴴ + eps I with F (N, rank), positive semidefinite by construction.
                 "unconstrained": the Hermitian part of a full matrix, which may be indefinite.
                 "powers": a factor, too, of columns sqrt(p_g) a_g: R_pred = Σ p_g a_g a_gᴴ + eps I over G directions a
                 beam apart or less, p_g = exp(number) / G. It needs ``shape``, and finds directions far better
    rank         columns of F; of "powers" it is G
    shape        of "powers": (rows, columns) of a uniform plane, or (N,) of a line
    reach        of "powers": a row has the beams up to so many away, along each axis
    points       of "powers": directions inside a beam along each axis
    eps          above 0; beside the scale of F, which is learned, it is the floor of the noise
    beta         in (0, 1): the weight of R_samp; learn_beta: it is the first value of a parameter's sigmoid
    beta_length  beta is that of so many snapshots; of L its odds beta / (1 - beta) are L / beta_length times as high,
                 as the error of R_samp falls as 1 / L (weights by inverse variance). None: the same for any L
    loading      added to the diagonal of the blend (C_EPS)
    center       the mean of a sample's snapshots is subtracted, and the divisor of R_samp is L - 1
    normalize    what is scaled: "snapshots", each sample by its root mean power, before R_samp is made of them (what
                 the network reads always is); "pred", "samp", "blend": to the trace N
    floor        the least trace that one is divided by
    limit        a scaling by a larger factor is refused (loopos.errors.AmplificationError); None: nothing is refused,
                 as in the program of 1.7e25
    loss         a name of LOSSES, or {name: weight}
    """

    elements: int = 144
    n_layer: int = 2
    n_head: int = 4
    d_model: int = 128
    d_ff: int | None = None
    norm: Literal["layernorm", "rmsnorm"] = "layernorm"
    activation: ActivationName = "gelu"
    bias: bool = True
    dropout: float = 0.0
    norm_eps: float = 1e-6
    prediction: Literal["factor", "unconstrained", "powers"] = "factor"
    rank: int = 8
    shape: tuple[int, ...] | None = None
    reach: int = 3
    points: int = 2
    eps: float = 0.1
    beta: float = 0.5
    learn_beta: bool = True
    beta_length: int | None = 16
    loading: float = 1e-3
    center: bool = False
    normalize: tuple[str, ...] = ("snapshots", "pred")
    floor: float = 1e-9
    limit: float | None = 1e6
    loss: Any = "frobenius"

    def __post_init__(self) -> None:
        where = "CovarianceConfig"
        elements = self._set("elements", checks.count(where, "elements", self.elements, high=1 << 14))
        checks.choice(where, "norm", self.norm, NORMS)
        checks.choice(where, "activation", self.activation, tuple(ACTIVATIONS))
        checks.choice(where, "prediction", self.prediction, PREDICTIONS)
        rank = checks.count(where, "rank", self.rank, high=1 << 24)
        for name in ("reach", "points"):
            self._set(name, checks.count(where, name, getattr(self, name), high=1 << 10))
        self._set("shape", self._shape(elements))
        ranks = {"factor": min(rank, elements), "unconstrained": elements, "powers": elements * self.row_outputs}
        self._set("rank", ranks[self.prediction])
        self._set("eps", checks.real(where, "eps", self.eps, above=0.0))
        self._set("beta", checks.real(where, "beta", self.beta, above=0.0, below=1.0))
        checks.boolean(where, "learn_beta", self.learn_beta)
        self._set("loading", checks.real(where, "loading", self.loading, low=0.0))
        checks.boolean(where, "center", self.center)
        if self.beta_length is not None:
            self._set("beta_length", checks.count(where, "beta_length", self.beta_length))
        if isinstance(self.normalize, str):
            raise TypeError(f"{where}: normalize must be a tuple of names, got {self.normalize!r}")
        chosen = [checks.choice(where, "normalize", name, MATRICES) for name in self.normalize]
        self._set("normalize", tuple(name for name in MATRICES if name in chosen))
        self._set("floor", checks.real(where, "floor", self.floor, above=0.0))
        if self.limit is not None:
            self._set("limit", checks.real(where, "limit", self.limit, low=1.0))
        self._set("loss", _losses(self.loss))
        self._set("d_ff", self.blocks().d_ff)  # which checks the rest

    def _set(self, name: str, value: Any) -> Any:
        object.__setattr__(self, name, value)
        return value

    def _shape(self, elements: int) -> tuple[int, ...] | None:
        where, shape = "CovarianceConfig", self.shape
        if self.prediction != "powers":
            if shape is not None:
                raise ValueError(f"{where}: shape is of prediction='powers', got {self.prediction!r}")
            return None
        if not isinstance(shape, tuple | list) or len(shape) not in (1, 2):
            raise ValueError(f"{where}: prediction='powers' needs shape=(rows, columns) or (N,), got {shape!r}")
        shape = tuple(checks.count(where, "shape", side) for side in shape)
        if math.prod(shape) != elements:
            raise ValueError(f"{where}: an array of shape {shape} has {math.prod(shape)} sensors, not {elements}")
        return shape

    @property
    def sides(self) -> tuple[int, int]:
        """rows and columns; a line is one row."""
        return (1, *self.shape)[-2:] if self.shape else (1, self.elements)

    @property
    def row_outputs(self) -> int:
        """Numbers that each row gives: the directions inside a beam. 0: the mean over rows gives them."""
        return math.prod(self.points for side in self.sides if side > 1) if self.prediction == "powers" else 0

    @property
    def channels(self) -> int:
        """Numbers of a row."""
        return beams.channels(self.sides, self.reach) if self.prediction == "powers" else 2 * self.elements

    @property
    def outputs(self) -> int:
        """Numbers that the network gives for each sample: real and imaginary parts of rank vectors of N, or powers."""
        return self.rank if self.prediction == "powers" else 2 * self.elements * self.rank

    def rows(self, length: int) -> int:
        """Of a sample of so many snapshots."""
        return self.elements if self.prediction == "powers" else length

    @property
    def blend_logit(self) -> float:
        return math.log(self.beta / (1 - self.beta))

    def blocks(self) -> ModelConfig:
        """What its blocks have of a language model's; neither vocabulary nor context is theirs."""
        names = ("n_layer", "n_head", "d_model", "d_ff", "norm", "activation", "bias", "dropout", "norm_eps")
        return ModelConfig(vocab_size=1, context_length=1, **{name: getattr(self, name) for name in names})

    def num_parameters(self) -> int:
        blocks = self.blocks()
        width, outside = self.d_model, blocks.num_parameters() - 2 * self.d_model  # without tokens and positions
        last = self.row_outputs or self.outputs
        ends = width * self.channels + last * width + (width + last) * self.bias
        return outside + ends + self.learn_beta

    def to_dict(self) -> dict[str, Any]:
        values = {f.name: getattr(self, f.name) for f in fields(self)}
        shape = None if self.shape is None else list(self.shape)
        return values | {"normalize": list(self.normalize), "loss": dict(self.loss), "shape": shape}

    @classmethod
    def from_dict(cls, values: Mapping[str, Any]) -> CovarianceConfig:
        """The config that :meth:`to_dict` wrote. Unknown names: ValueError listing them."""
        known = [f.name for f in fields(cls)]
        if unknown := sorted(set(values) - set(known)):
            raise ValueError(f"CovarianceConfig: unknown fields {', '.join(unknown)}; expected {', '.join(known)}")
        changed = {name: tuple(values[name]) for name in ("normalize", "shape") if values.get(name) is not None}
        return cls(**{**values, **changed})


def _losses(given: Any) -> tuple[tuple[str, float], ...]:
    where = "CovarianceConfig"
    pairs = given.items() if isinstance(given, Mapping) else ((given, 1.0),) if isinstance(given, str) else given
    if not isinstance(given, Mapping | str | tuple | list) or not pairs:
        raise TypeError(f"{where}: loss must be a name or {{name: weight}}, got {checks.shown(given)}")
    return tuple(
        (checks.choice(where, "loss", name, LOSSES), checks.real(where, f"loss {name}", weight, above=0.0))
        for name, weight in pairs
    )


def for_core(config: CovarianceConfig) -> dict[str, Any]:
    """What ``snapshot_config_from`` in bindings/model_config.cpp reads."""
    return {
        "blocks": blocks_for_core(config.blocks()),
        "channels": config.channels,
        "outputs": config.row_outputs or config.outputs,
        "pooled": not config.row_outputs,
        "learns_blend": config.learn_beta,
        "blend_logit": config.blend_logit,
    }
