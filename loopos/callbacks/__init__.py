"""Callbacks that hand a run's numbers to programs that draw them: ``train(callbacks=[TensorBoard("runs/tb")])``."""

from loopos.run.callbacks import Callback

from .tensorboard import TensorBoard
from .weights_and_biases import WandB

__all__ = ["Callback", "TensorBoard", "WandB"]
