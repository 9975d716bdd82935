"""Small PyTorch programs that loopos.watch and its doctor are tried on: healthy ones, silent bugs, and faults."""
