"""What a training run is made of: settings, updates, checkpoints, logs, policies. The loop is ``loopos.training``."""
