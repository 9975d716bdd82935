"""Complex covariance and direction of arrival: simulated arrays, estimators, bounds, a network that learns.

Arrays of sensors measure snapshots (B, L, N); what is wanted is their covariance R = E[x xᴴ] (B, N, N) and the
directions of the sources. Angles are radians, lengths wavelengths."""

from importlib import import_module
from typing import TYPE_CHECKING

from .arrays import ULA, URA, SensorArray
from .calibration import CalibrationErrors
from .config import CovarianceConfig
from .esprit import esprit
from .music import beam_spectrum, music, music_spectrum
from .network import CovarianceNetwork
from .pipeline import Covariances, pipeline
from .root_music import root_music
from .simulation import Samples, Simulation, subspacenet

if TYPE_CHECKING:  # for readers of types and of docstrings; each is loaded when it is first used
    from .bounds import cramer_rao, direction_bound
    from .counting import count_sources
    from .evaluation import Row, evaluate, sweep, table
    from .folder import read_samples
    from .matching import best_permutation, direction_errors, rmspe, root_mean_square
    from .pictures import error_picture, learned_picture, spectrum_picture
    from .sample import forward_backward, sample_covariance, smoothed
    from .shrinkage import Shrunk, ledoit_wolf, oas, oracle_weight, rblw

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
    "learned_picture",
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

_LATER = {  # a training needs none of it; a module of the name of its function cannot wait: it would stand for it
    "bounds": "cramer_rao, direction_bound",
    "counting": "count_sources",
    "evaluation": "Row, evaluate, sweep, table",
    "folder": "read_samples",
    "matching": "best_permutation, direction_errors, rmspe, root_mean_square",
    "pictures": "error_picture, learned_picture, spectrum_picture",
    "sample": "forward_backward, sample_covariance, smoothed",
    "shrinkage": "Shrunk, ledoit_wolf, oas, oracle_weight, rblw",
}
_HOME = {name: module for module, names in _LATER.items() for name in names.split(", ")}


def __getattr__(name: str) -> object:
    if name in _HOME:
        globals()[name] = getattr(import_module(f"{__name__}.{_HOME[name]}"), name)
        return globals()[name]
    raise AttributeError(f"module {__name__!r} has no attribute {name!r}")
