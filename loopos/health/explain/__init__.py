"""``loopos.explain``: from a log, an error or a run folder to its likely causes."""
