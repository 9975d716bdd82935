"""Data: from what a person hands to train (a text, a file, an array, an object) to batches of token ids."""

from .batches import (
    DatasetSource,
    TokenStream,
    check_batch,
)
from .examples.audit import LabelAudit, audit
from .held_out import IGNORE, HeldOut
from .order import permutation
from .reading import default_text, fingerprint, load_ids, train_eval_split
from .sources import Sources, open_sources

__all__ = [
    "IGNORE",
    "DatasetSource",
    "HeldOut",
    "LabelAudit",
    "Sources",
    "TokenStream",
    "audit",
    "check_batch",
    "default_text",
    "fingerprint",
    "load_ids",
    "open_sources",
    "permutation",
    "train_eval_split",
]
