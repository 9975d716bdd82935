"""``loopos.replay``: updates and runs computed again, compared bit for bit and varied."""
