"""Complex covariance and direction of arrival: simulated arrays, estimators, bounds, a network that learns.

Arrays of sensors measure snapshots (B, L, N); what is wanted is their covariance R = E[x xᴴ] (B, N, N) and the
directions of the sources. Angles are radians, lengths wavelengths."""

from .arrays import ULA, URA, SensorArray
from .bounds import cramer_rao, direction_bound
from .calibration import CalibrationErrors
from .config import CovarianceConfig
from .counting import count_sources
from .esprit import esprit
from .evaluation import Row, evaluate, sweep, table
from .folder import read_samples
from .matching import best_permutation, direction_errors, rmspe, root_mean_square
from .music import beam_spectrum, music, music_spectrum
from .network import CovarianceNetwork
from .pictures import error_picture, spectrum_picture
from .pipeline import Covariances, pipeline
from .root_music import root_music
from .sample import forward_backward, sample_covariance, smoothed
from .shrinkage import Shrunk, ledoit_wolf, oas, oracle_weight, rblw
from .simulation import Samples, Simulation, subspacenet

__all__ = [
    "ULA",
    "URA",
    "CalibrationErrors",
    "CovarianceConfig",
    "CovarianceNetwork",
    "Covariances",
    "Row",
    "Samples",
    "SensorArray",
    "Shrunk",
    "Simulation",
    "beam_spectrum",
    "best_permutation",
    "count_sources",
    "cramer_rao",
    "direction_bound",
    "direction_errors",
    "error_picture",
    "esprit",
    "evaluate",
    "forward_backward",
    "ledoit_wolf",
    "music",
    "music_spectrum",
    "oas",
    "oracle_weight",
    "pipeline",
    "rblw",
    "read_samples",
    "rmspe",
    "root_mean_square",
    "root_music",
    "sample_covariance",
    "smoothed",
    "spectrum_picture",
    "subspacenet",
    "sweep",
    "table",
]
