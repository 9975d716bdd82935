"""Complex covariance and direction of arrival: simulated arrays, estimators, bounds, a network that learns.

Arrays of sensors measure snapshots (B, L, N); what is wanted is their covariance R = E[x xᴴ] (B, N, N) and the
directions of the sources. Angles are radians, lengths wavelengths."""

from .arrays import ULA, URA, SensorArray
from .calibration import CalibrationErrors
from .config import CovarianceConfig
from .network import CovarianceNetwork
from .simulation import Samples, Simulation, subspacenet

__all__ = [
    "ULA",
    "URA",
    "CalibrationErrors",
    "CovarianceConfig",
    "CovarianceNetwork",
    "Samples",
    "SensorArray",
    "Simulation",
    "subspacenet",
]
