"""Examples to learn from: read from files, turned into tokens with what of them is learned, packed into rows."""
