"""LoopOS: a CPU training engine for transformers, in C++ with hand-written backward passes, driven from Python."""

from importlib import import_module

try:
    import loopos._core
    import loopos.precision  # noqa: F401 (both only to say it well when one is missing or refuses the environment)
except ModuleNotFoundError as error:  # a source folder without a build; an extension that fails to load says so itself
    if error.name != "loopos._core":
        raise
    raise ImportError(
        "loopos: the compiled extension loopos._core is missing. Install the package first: run `pip install .` in a "
        "clone (it needs g++), and start Python outside that clone or install with `pip install -e .`."
    ) from error
except ImportError as error:
    from loopos.environment import refused

    refused(error)
    raise

from loopos import losses, ops, optim
from loopos._core import get_num_threads, guard_counts, reset_guard_counts, set_num_threads
from loopos.adapters import LoRA, Modulated
from loopos.build_info import __version__, show_config
from loopos.config import ModelConfig
from loopos.distributed import Distributed
from loopos.errors import Birth, CheckpointError, NonFiniteError
from loopos.gradients.gradcheck import GradcheckError, gradcheck
from loopos.model import Model
from loopos.run.callbacks import Callback
from loopos.run.distill import Distill
from loopos.text import Tokenizer
from loopos.training import TrainResult, train

__all__ = [
    "Birth",
    "Callback",
    "CheckpointError",
    "Distill",
    "Distributed",
    "GradcheckError",
    "LoRA",
    "Model",
    "ModelConfig",
    "Modulated",
    "NonFiniteError",
    "Tokenizer",
    "TrainResult",
    "__version__",
    "callbacks",
    "counterfactuals",
    "covariance",
    "doctor",
    "explain",
    "get_num_threads",
    "gguf",
    "gradcheck",
    "guard_counts",
    "losses",
    "ops",
    "optim",
    "replay",
    "reset_guard_counts",
    "set_num_threads",
    "show_config",
    "trace_step",
    "train",
    "vision",
    "watch",
]

_LATER = {  # loaded when first used: a training needs none of it
    "callbacks": "loopos.callbacks",
    "counterfactuals": "loopos.health.replay.counterfactuals",
    "covariance": "loopos.covariance",
    "doctor": "loopos.health.doctor.doctor",
    "explain": "loopos.health.explain.explain",
    "gguf": "loopos.gguf",
    "replay": "loopos.health.replay.replay",
    "trace_step": "loopos.health.ledger",
    "vision": "loopos.vision",
    "watch": "loopos.watch",
}


def __getattr__(name: str):
    if name in _LATER:
        module = import_module(_LATER[name])
        # A room has no such name and is meant itself, as is one that can be called.
        globals()[name] = module if callable(module) else getattr(module, name, module)
        return globals()[name]
    raise AttributeError(f"module {__name__!r} has no attribute {name!r}")
