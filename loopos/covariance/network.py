"""The network of snapshots: what R_pred is made of."""

from __future__ import annotations

import math
from collections.abc import Callable
from typing import Any

import numpy as np

from loopos import _core, checks, network
from loopos.calls import serialised
from loopos.errors import NonFiniteError

from .beams import beam_rows, steering
from .config import CovarianceConfig, for_core

_CLASSES = {"float32": _core.SnapshotEncoderF32, "float64": _core.SnapshotEncoderF64}
COMPLEX = {"float32": "complex64", "float64": "complex128"}


class CovarianceNetwork(network.Network):
    """The network that a :class:`CovarianceConfig` describes. seed: of the initial weights (normal 0.02, residual
    outputs 0.02 / sqrt(2 n_layer), biases 0, norm weights 1; "blend" is the logit of beta).

    Wherever snapshots are taken they are complex (B, L, N), of any L from 1 on: row l is x(l). Those of another complex
    dtype are rounded or widened; others raise TypeError. The order of a sample's snapshots makes no difference beyond
    rounding."""

    _config_type = CovarianceConfig

    def _make_core(self, dtype: str, seed: int | None) -> Any:
        return _CLASSES[dtype](for_core(self._config), seed)

    def beta(self, length: int | None = None) -> float:
        """The weight of R_samp in the blend, now, for samples of ``length`` snapshots; None: beta_length."""
        logit, known = self._config.blend_logit, self._config.beta_length
        if self._config.learn_beta:
            logit = float(self._core.parameters(writable=False)["blend"][0])
        if length is not None and known is not None:
            logit += math.log(length / known)
        small = math.exp(-abs(logit))  # of a logit of either sign: no overflow
        return (1 if logit >= 0 else small) / (1 + small)

    def rows(self, snapshots: np.ndarray) -> np.ndarray:
        """(B, L, 2 N) as the core reads them: real parts, then imaginary, of the snapshots over :func:`root_power`; of
        prediction="powers" (B, N, channels), :func:`loopos.covariance.beams.beam_rows` of the same. That scale is not
        the network's business; it comes back by the trace of R_samp."""
        snapshots = self.checked(snapshots)
        scaled = snapshots / root_power(snapshots)[:, None, None]
        if self._config.prediction == "powers":
            rows = beam_rows(scaled.astype(COMPLEX[self.dtype]), self._config.sides, self._config.reach)
            return np.ascontiguousarray(rows, self.dtype)
        return np.concatenate([scaled.real, scaled.imag], axis=-1, dtype=self.dtype)

    def checked(self, snapshots: Any) -> np.ndarray:
        """complex64 or complex128 (B, L, N) of the model's dtype. ValueError for another shape, a number that is not
        finite, or a sample without power."""
        where = f"{type(self).__name__}.rows"
        snapshots = checks.unmasked(where, "snapshots", snapshots)
        if not isinstance(snapshots, np.ndarray) or snapshots.dtype.kind != "c":
            got = getattr(snapshots, "dtype", type(snapshots).__name__)
            raise TypeError(f"{where}: snapshots must be a numpy array of complex64 or complex128, got {got}")
        if snapshots.ndim != 3 or snapshots.shape[2] != self._config.elements or not snapshots.shape[1]:
            raise ValueError(
                f"{where}: snapshots must have the shape (B, L, {self._config.elements}) with L at least 1, got "
                f"{snapshots.shape}"
            )
        snapshots = snapshots.astype(COMPLEX[self.dtype], copy=False)
        bad = np.flatnonzero(~np.isfinite(snapshots).all(axis=(1, 2)))
        if len(bad):
            raise ValueError(f"{where}: sample {bad[0]} has a number that is not finite")
        return snapshots

    @serialised
    def numbers(self, snapshots: np.ndarray) -> np.ndarray:
        """What the network gives of each sample: (B, config.outputs). Dropout never acts here."""
        return self._core.forward(self.rows(snapshots))

    @serialised
    def vectors(self, snapshots: np.ndarray) -> np.ndarray:
        """The same as complex (B, rank, N): the columns of F, or of an unconstrained matrix its columns."""
        return as_vectors(self._core.forward(self.rows(snapshots)), self._config)

    @serialised
    def value_and_grads(
        self, snapshots: np.ndarray, loss: Callable[[np.ndarray], tuple[float, np.ndarray, float]]
    ) -> tuple[float, dict[str, np.ndarray]]:
        """A loss and its gradient for every trainable parameter, as fresh arrays. loss(numbers (B, config.outputs))
        gives its value, its gradient and that by the logit of beta. NonFiniteError when one of them or an activation is
        not finite; its ``birth`` says where it arose."""
        inputs = self.rows(snapshots), np.zeros(len(snapshots), np.int64)
        total, _, healthy = self._core.accumulate(*inputs, between=loss)
        norm = self._core.grad_norm()
        if not (healthy and math.isfinite(total) and math.isfinite(norm)):
            raised = {0: self._core.raised()}
            calls = [(*inputs, {"between": loss})]
            birth = network.find_birth(self._core, calls, loss=total, norm=norm, step=None, raised=raised)
            if birth is not None:
                raise NonFiniteError(birth)
        return total, {name: grad.copy() for name, grad in self._core.gradients().items()}


def root_power(snapshots: np.ndarray) -> np.ndarray:
    """sqrt(mean |x|²) of each sample (B,), in double, without overflow. ValueError for one without power."""
    peaks = np.abs(snapshots).max(axis=(1, 2)).astype(np.float64)
    if (silent := np.flatnonzero(peaks == 0)).size:
        raise ValueError(f"root_power: all snapshots of sample {silent[0]} are 0, so its covariance has no scale")
    inside = np.abs(snapshots).astype(np.float64) / peaks[:, None, None]
    return peaks * np.sqrt(np.square(inside).mean(axis=(1, 2)))


def as_vectors(numbers: np.ndarray, config: CovarianceConfig) -> np.ndarray:
    """complex (B, rank, N) of numbers (B, 2 N rank): real parts, then imaginary. Of powers (B, G): the steering vectors
    times exp(number / 2) / sqrt(G)."""
    if config.prediction == "powers":
        return _roots(numbers)[:, :, None] * _steering(config, numbers.dtype)
    real, imag = numbers.reshape(len(numbers), 2, config.rank, config.elements).swapaxes(0, 1)
    return real + 1j * imag


def numbers_backward(dvectors: np.ndarray, numbers: np.ndarray, config: CovarianceConfig) -> np.ndarray:
    """The gradient by the numbers of one by the vectors, which in PyTorch's convention is dL/dRe + j dL/dIm."""
    if config.prediction != "powers":
        return np.ascontiguousarray(np.stack([dvectors.real, dvectors.imag], axis=1)).reshape(len(dvectors), -1)
    along = np.einsum("bgn,gn->bg", dvectors, _steering(config, numbers.dtype).conj()).real  # by exp(number / 2)
    return along * _roots(numbers) / 2


def _roots(numbers: np.ndarray) -> np.ndarray:
    """The roots of the powers, exp(number / 2) / sqrt(G)."""
    return np.exp(numbers / 2) / numbers.dtype.type(math.sqrt(numbers.shape[1]))


def _steering(config: CovarianceConfig, dtype: np.dtype) -> np.ndarray:
    return steering(config.sides, config.points, COMPLEX[dtype.name])
