"""Flags of a run that is over in a moment."""

SMALL = ["--context-length", "16", "--n-layer", "1", "--n-head", "2", "--d-model", "16"]
TRAIN = [*SMALL, "--max-steps", "3", "--batch-size", "2", "--sample", "0"]
