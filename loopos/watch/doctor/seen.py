"""What operations a computation makes: random ones, and products with their precision, each with its module."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager
from typing import Any

from .arguments import SIGNED, TAKES, Wrong, judged, unsigned
from .shapes import BY_HAND, COMPARED, Shapes, Spread

PRODUCTS = {"mm", "addmm", "bmm", "baddbmm", "linear", "matmul", "__matmul__", "conv1d", "conv2d", "conv3d"}
LOSSES = {"binary_cross_entropy", "multi_margin_loss", "soft_margin_loss", "multilabel_soft_margin_loss"}
_DROPS = {"bernoulli_", "bernoulli", "native_dropout", "dropout", "alpha_dropout"}
_DRAWS = {"normal_", "uniform_", "randn", "rand", "rand_like", "randn_like", "exponential_", "randint", "multinomial"}


class Seen:
    """A context: while it is on, operations of this thread are recorded.

    drops: modules in which a mask of dropout was drawn; draws: modules with other random numbers; products: (module,
    dtype, whether autocast was on) of every matrix product and convolution; called: modules that were; spread: where
    every row of a loss was set against every other; taken: losses that take logits or logs of them, and wrong: what
    they were given instead; factors: after a backward pass, by (name, which call) of every known loss that is one
    number, its factor in the whole; folded: the absolute value of a sum of losses was taken."""

    def __init__(self, model: Any):
        self.drops: set[str] = set()
        self.draws: set[str] = set()
        self.products: list[tuple[str, Any, bool]] = []
        self.called: set[str] = set()
        self._shapes = Shapes()
        self.taken: set[str] = set()
        self.wrong: list[Wrong] = []
        self.factors: dict[tuple[str, int], float] = {}
        self._losses, self.folded = 0, False
        self._model, self._stack, self._autocast = model, [], False

    @property
    def spread(self) -> list[Spread]:
        return self._shapes.spread

    def __enter__(self) -> Seen:
        self._mode, self._functions, self._hooks = _mode(self), _functions(self), []
        for name, module in self._model.named_modules():
            self._hooks.append(module.register_forward_pre_hook(lambda *_, name=name: self._enter(name)))
            self._hooks.append(module.register_forward_hook(lambda *_: self._leave(), always_call=True))
        self._mode.__enter__()
        self._functions.__enter__()
        return self

    def __exit__(self, *error: Any) -> None:
        self._functions.__exit__(*error)
        self._mode.__exit__(*error)
        for hook in self._hooks:
            hook.remove()

    def _enter(self, name: str) -> None:
        self._stack.append(name)
        self.called.add(name)

    def _leave(self) -> None:
        if self._stack:
            self._stack.pop()

    def note(self, function: Any, arguments: tuple[Any, ...], keywords: dict[str, Any], result: Any) -> None:
        op = function.__name__.partition(".")[0]
        where = self._stack[-1] if self._stack else ""
        if op in _DROPS or (op.startswith("_scaled_dot_product") and _dropped(arguments, keywords)):
            self.drops.add(where)
        elif op in _DRAWS:
            self.draws.add(where)
        elif getattr(function, "namespace", "aten") not in ("aten", "prim", "prims"):
            self.product(result)  # an operation of somebody's own: what it computes is not known

    def look(self, device: str) -> None:
        """Whether autocast is on where the program's text now is: below an operation it never is."""
        import torch

        self._autocast = torch.is_autocast_enabled(device)

    def take(self, name: str, given: tuple[Any, ...], keywords: dict[str, Any]) -> None:
        """A loss that takes logits or logs of them was computed."""
        self.taken.add(name)
        first = given[0] if given else keywords.get("input", keywords.get("log_probs"))
        target = given[1] if len(given) > 1 else keywords.get("target")
        wrong = judged(name, first, target, bool(keywords.get("log_target", given[5] if len(given) > 5 else False)))
        self.wrong += [] if wrong is None else [wrong]

    def take_signed(self, name: str, given: tuple[Any, ...], keywords: dict[str, Any]) -> None:
        """A loss whose targets are 1 and -1 was computed."""
        self.taken.add(name)
        at = SIGNED[name]
        wrong = unsigned(name, given[at] if len(given) > at else keywords.get("target"))
        self.wrong += [] if wrong is None else [wrong]

    def weigh(self, name: str, given: tuple[Any, ...], keywords: dict[str, Any], result: Any) -> None:
        """A known loss was computed. One whose targets are all the same may be meant to rise: a generator's."""
        import torch

        target = given[1] if len(given) > 1 else keywords.get("target")
        if not isinstance(target, torch.Tensor) or not isinstance(result, torch.Tensor) or not result.requires_grad:
            return
        if result.ndim or target.numel() < 2 or bool((target == target.reshape(-1)[0]).all()):
            return
        self._losses += 1
        key = name, self._losses
        result.register_hook(lambda gradient: self.factors.__setitem__(key, float(gradient)))

    def fold(self, result: Any) -> None:
        """The absolute value of a loss was taken, as flooding does: below its bound the loss is meant to rise."""
        self.folded = self.folded or (result.ndim == 0 and result.requires_grad and not self._stack)

    def compare(self, name: str, one: Any, two: Any) -> None:
        """A loss of two tensors was computed."""
        self._shapes.compare(name, one, two)

    def combine(self, name: str, given: tuple[Any, ...], result: Any) -> None:
        """A sum, a difference or a product was computed; one of the loss, if no module is at work."""
        if not self._stack:
            self._shapes.combine(name, given, result)

    def product(self, result: Any) -> None:
        """A product, or what may be one, was computed."""
        import torch

        if isinstance(result, torch.Tensor) and result.is_floating_point():
            self.products.append((self._stack[-1] if self._stack else "", result.dtype, self._autocast))


def _dropped(arguments: tuple[Any, ...], keywords: dict[str, Any]) -> bool:
    """Whether scaled_dot_product was given a dropout above 0: its first float argument."""
    given = keywords.get("dropout_p")
    if given is None:
        given = next((each for each in arguments if type(each) is float), 0.0)
    return given > 0


def _mode(seen: Seen) -> Any:
    from torch.utils._python_dispatch import TorchDispatchMode

    class Recorder(TorchDispatchMode):
        def __torch_dispatch__(self, function: Any, types: Any, args: Any = (), kwargs: Any = None) -> Any:
            result = function(*args, **(kwargs or {}))
            seen.note(function, args, kwargs or {}, result)
            return result

    return Recorder()


def _functions(seen: Seen) -> Any:
    """Of products as they are written: an operation that autocast knows is computed below it, where it is off."""
    import torch
    from torch.overrides import TorchFunctionMode

    class Written(TorchFunctionMode):
        def __torch_function__(self, function: Any, types: Any, args: Any = (), kwargs: Any = None) -> Any:
            result = function(*args, **(kwargs or {}))
            seen.look(next((each.device.type for each in args if isinstance(each, torch.Tensor)), "cpu"))
            name = getattr(function, "__name__", "")
            if name in TAKES or name in COMPARED or name in LOSSES:
                seen.weigh(name, args, kwargs or {}, result)
            if name in SIGNED:
                seen.take_signed(name, args, kwargs or {})
            if name in PRODUCTS:
                seen.product(result)
            elif name in COMPARED:
                one, two, *_ = [*args, *((kwargs or {})[key] for key in ("input", "target") if key in (kwargs or {}))]
                seen.compare(name, one, two)
            elif name in TAKES:
                seen.take(name, args, kwargs or {})
            elif name in ("abs", "__abs__", "absolute"):
                seen.fold(result)
            elif name in BY_HAND:
                seen.combine(name, args, result)
            return result

    return Written()


@contextmanager
def no_dropout() -> Iterator[None]:
    """Every dropout of torch.nn.functional, and that of attention, has a probability of 0."""
    import torch
    from torch.nn import functional
    from torch.overrides import TorchFunctionMode

    drops = {getattr(functional, name) for name in dir(functional) if name.endswith("dropout")}
    drops |= {getattr(functional, name) for name in ("dropout1d", "dropout2d", "dropout3d")}
    drops |= {torch.dropout, torch.feature_dropout, torch.alpha_dropout}

    class Still(TorchFunctionMode):
        def __torch_function__(self, function: Any, types: Any, args: Any = (), kwargs: Any = None) -> Any:
            kwargs = dict(kwargs or {})
            if function in drops:
                return args[0] if args else kwargs["input"]
            if function is functional.multi_head_attention_forward:
                kwargs["training"] = False  # of its dropout alone
            if function is functional.scaled_dot_product_attention:
                kwargs["dropout_p"] = 0.0
                if len(args) > 4:
                    args = (*args[:4], 0.0, *args[5:])
                    del kwargs["dropout_p"]
            return function(*args, **kwargs)

    with Still():
        yield
