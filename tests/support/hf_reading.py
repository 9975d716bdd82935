"""All of a Hugging Face folder in memory: the model of LoopOS takes one parameter after another instead."""

from loopos.hf import Opened, open_pretrained


def read_pretrained(folder, dtype=None) -> Opened:
    opened = open_pretrained(folder, dtype)
    return opened._replace(arrays=dict(opened.arrays))
