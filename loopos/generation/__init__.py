"""Generation: how tokens are chosen, where a text ends, many rows at once, and a session that keeps its cache."""

from .sampling import Sampling, UniformStream
from .session import Piece, Session
from .stopping import Stops, Watch

__all__ = ["Piece", "Sampling", "Session", "Stops", "UniformStream", "Watch"]
