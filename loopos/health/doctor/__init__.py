"""``loopos.doctor``: checks of a model, its data and its settings before a run."""
