"""Training over several processes, with MPI as the only transport. Start reading at ``opening``; the docs are
docs/distributed.md."""

from .options import Distributed

__all__ = ["Distributed"]
