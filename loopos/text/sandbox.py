"""The environment in which a chat template runs: Jinja2's immutable sandbox, with a limit on steps and on memory."""

from __future__ import annotations

import json
import re
from collections.abc import Iterable, Iterator, Mapping
from contextvars import ContextVar
from datetime import datetime
from functools import lru_cache
from typing import Any

try:
    import jinja2
    from jinja2 import ext, nodes, sandbox
    from jinja2.visitor import NodeTransformer
except ImportError:
    raise ImportError(
        "a chat template needs the package jinja2; pip install 'loopos[hf]', or write the prompt yourself"
    ) from None

STEPS = 2_000_000  # rounds of loops and calls of one rendering: seconds at most
LENGTH = 1 << 26  # characters or items of one value: more than any chat
DIGITS = 4300  # of one number: as many as Python writes out


class TooMuch(Exception):
    """A template went beyond a limit."""


class _Use:
    """What one rendering has used up, and where answers stand in what was written so far."""

    def __init__(self) -> None:
        self.steps, self.length = 0, 0
        self.answers: list[tuple[int, int]] = []
        self.weights: dict[int, tuple[Any, int]] = {}  # of lists and dicts by id, with them, so that ids stay theirs


_use: ContextVar[_Use] = ContextVar("use of one rendering")


def _spend(steps: int = 1) -> None:
    use = _use.get()
    use.steps += steps
    if use.steps > STEPS:
        raise TooMuch(f"it runs more than {STEPS} rounds of loops and calls")


def _sized(length: int) -> None:
    if length > LENGTH:
        raise TooMuch(f"it makes a value of {length} characters, and {LENGTH} is the limit")


def _digits(count: int) -> None:
    """Of a number, which takes time that grows with their square."""
    if count > DIGITS:
        raise TooMuch(f"it makes a number of {count} digits, and {DIGITS} is the limit")


def _weight(value: Any) -> int:
    """Items and characters of a value written out: a list that holds another twice has it twice. Nothing is mutable
    here, so what was weighed once stays so."""
    if isinstance(value, str):
        return len(value)
    if not isinstance(value, list | tuple | dict):
        return 1
    weights = _use.get().weights
    if id(value) not in weights:
        parts = [*value.keys(), *value.values()] if isinstance(value, dict) else value
        weights[id(value)] = value, len(value) + sum(map(_weight, parts))
    return weights[id(value)][1]


class _Generation(ext.Extension):
    """{% generation %}...{% endgeneration %}: what the assistant wrote."""

    tags = {"generation"}  # noqa: RUF012 (Jinja2's interface)

    def parse(self, parser: Any) -> Any:
        line = next(parser.stream).lineno
        body = parser.parse_statements(("name:endgeneration",), drop_needle=True)
        return nodes.CallBlock(self.call_method("_mark"), [], [], body).set_lineno(line)

    def _mark(self, caller: Any) -> str:
        text, use = caller(), _use.get()
        use.answers.append((use.length, use.length + len(text)))
        return text


class _Namespace(jinja2.utils.Namespace):
    """namespace(): without attributes by which Python's internals would be replaced."""

    def __init__(*args: Any, **kwargs: Any) -> None:
        self, attributes = args[0], dict(*args[1:], **kwargs)
        for name in attributes:
            _refuse_private(name)
        jinja2.utils.Namespace.__init__(self, attributes)

    def __setitem__(self, name: str, value: Any) -> None:
        _refuse_private(name)
        super().__setitem__(name, value)


def _refuse_private(name: Any) -> None:
    if isinstance(name, str) and name.startswith("_"):
        raise jinja2.exceptions.SecurityError(f"the name {name!r} of a namespace begins with an underscore")


class _Dict:
    """dict() as a template may call it: the class itself would lead to its methods."""

    def __call__(self, *args: Any, **kwargs: Any) -> dict:
        made = dict(*args, **kwargs)
        _sized(_weight(made))
        return made


class _Made(NodeTransformer):
    """Every list, tuple and dict that a template makes is weighed: the one before twice, sixty times, is 2^60."""

    def visit_List(self, node: Any) -> Any:
        return _through("made", [self.generic_visit(node)])

    def visit_Dict(self, node: Any) -> Any:
        return _through("made", [self.generic_visit(node)])

    def visit_Tuple(self, node: Any) -> Any:
        node = self.generic_visit(node)
        return _through("made", [node]) if node.ctx == "load" else node


def _through(method: str, arguments: list) -> Any:
    return nodes.Call(nodes.EnvironmentAttribute(method), arguments, [], None, None)


class _Sandbox(sandbox.ImmutableSandboxedEnvironment):
    """Loops, calls and what grows pass through here, so that a template ends and its values stay small."""

    intercepted_binops = frozenset({"+", "*", "**", "%"})

    def _generate(self, source: Any, *args: Any, **kwargs: Any) -> str:
        source = _Made().visit(source)
        for loop in source.find_all(nodes.For):
            loop.iter = _through("counted", [loop.iter])
        for joining in list(source.find_all(nodes.Concat)):  # a ~ b is not among the operators that can be watched
            joining.nodes = [_through("joined", joining.nodes)]
        source.set_environment(self)
        return super()._generate(source, *args, **kwargs)

    def made(self, value: Any) -> Any:
        _sized(_weight(value))
        return value

    def counted(self, values: Any) -> Any:
        if isinstance(values, jinja2.Undefined):
            return values  # Jinja2 says what of it
        return _Counted(values)

    def joined(self, *parts: Any) -> str:
        texts = [str(part) for part in parts]
        _sized(sum(map(len, texts)))
        return "".join(texts)

    def call(__self, __context: Any, __obj: Any, *args: Any, **kwargs: Any) -> Any:
        _spend()
        method = getattr(__obj, "__wrapped__", __obj)  # the sandbox has a wrapper round str.format
        if isinstance(getattr(method, "__self__", None), str):
            _watch_method(method, args, kwargs)
        return super().call(__context, __obj, *args, **kwargs)

    def call_binop(self, context: Any, operator: str, left: Any, right: Any) -> Any:
        if operator == "%" and isinstance(left, str):
            _watch_format(left)
        elif operator == "**" and all(isinstance(each, int) for each in (left, right)):
            _digits(left.bit_length() * max(right, 0) // 3)
        elif operator in "+*":
            _sized(_grown(operator, left, right))
        result = super().call_binop(context, operator, left, right)
        return self.made(result) if isinstance(result, list | tuple) else result


class _Counted:
    """An iterable each of whose items costs a step; with the length of what it goes through, for loop.length."""

    def __init__(self, values: Any):
        self._values = values

    def __iter__(self) -> Iterator[Any]:
        for value in self._values:
            _spend()
            yield value

    def __len__(self) -> int:
        return len(self._values)


def _grown(operator: str, left: Any, right: Any) -> int:
    if operator == "+" and all(isinstance(each, str | list | tuple) for each in (left, right)):
        return len(left) + len(right)
    if operator == "*":
        for many, times in ((left, right), (right, left)):
            if isinstance(times, int):
                length = len(many) if isinstance(many, str | list | tuple) else 0
                if isinstance(many, int):
                    _digits((many.bit_length() + times.bit_length()) // 3)
                return length * times
    return 0


def _watch_format(text: str) -> None:
    if re.search(r"\*|\d{6}", text):
        raise TooMuch("it formats to a width of more than five digits")


def _watch_method(method: Any, args: tuple, kwargs: Mapping[str, Any]) -> None:
    text, name = method.__self__, getattr(method, "__name__", "")
    if name in ("format", "format_map"):
        _watch_format(text)
        _sized(sum(len(str(value)) for value in (*args, *kwargs.values())) * (1 + text.count("{")))
    elif name == "replace" and len(args) > 1 and all(isinstance(each, str) for each in args[:2]):
        _sized(len(text) + (text.count(args[0]) if args[0] else len(text) + 1) * len(args[1]))
    elif name == "join" and args:
        _sized(len(text) * (len(args[0]) if hasattr(args[0], "__len__") else 0))
    elif name in ("center", "ljust", "rjust", "zfill", "expandtabs"):
        _sized(max((each for each in args if isinstance(each, int)), default=0) * (1 + text.count("\t")))


def _guarded(name: str, filter_: Any) -> Any:
    """A filter of Jinja2 whose result may be far larger than its input, behind the same limits."""
    if getattr(filter_, "jinja_pass_arg", None) is not None:

        def guarded(first: Any, value: Any, *args: Any, **kwargs: Any) -> Any:
            _watch_filter(name, value, args, kwargs)
            return filter_(first, value, *args, **kwargs)

        guarded.jinja_pass_arg = filter_.jinja_pass_arg  # type: ignore[attr-defined]
    else:

        def guarded(value: Any, *args: Any, **kwargs: Any) -> Any:
            _watch_filter(name, value, args, kwargs)
            return filter_(value, *args, **kwargs)

    return guarded


def _watch_filter(name: str, value: Any, args: tuple, kwargs: Mapping[str, Any]) -> None:
    given = [*args, *kwargs.values()]
    size = len(value) if hasattr(value, "__len__") else 1
    numbers = max((each for each in given if isinstance(each, int)), default=0)
    texts = max((len(each) for each in given if isinstance(each, str)), default=0)
    if name == "format":
        _watch_format(str(value))
    _sized(max(numbers, 1) * (1 + (str(value).count("\n") if name == "indent" else 0)))
    _sized(size * max(texts, 1))


def _refuse(message: Any) -> None:
    raise jinja2.exceptions.TemplateError(str(message))


def _to_json(
    value: Any, ensure_ascii: bool = False, indent: Any = None, separators: Any = None, sort_keys: bool = False
) -> str:
    """Jinja2's own filter writes <, > and & for HTML."""
    if isinstance(indent, str | int):
        _sized(1000 * (len(indent) if isinstance(indent, str) else indent))
    return json.dumps(value, ensure_ascii=ensure_ascii, indent=indent, separators=separators, sort_keys=sort_keys)


def _range(*args: int) -> range:
    made = sandbox.safe_range(*args)
    _spend(len(made))
    return made


@lru_cache(maxsize=32)
def _compiled(template: str) -> Any:
    made = _Sandbox(trim_blocks=True, lstrip_blocks=True, extensions=[_Generation, ext.loopcontrols])
    for name in ("center", "indent", "replace", "format", "join", "batch", "slice", "wordwrap"):
        made.filters[name] = _guarded(name, made.filters[name])
    made.filters["tojson"] = _to_json
    made.globals |= {
        "raise_exception": _refuse,
        "strftime_now": lambda format: datetime.now().strftime(format),
        "dict": _Dict(),
        "namespace": _Namespace,
        "range": _range,
    }
    return made.from_string(template)


def run(template: str, variables: Mapping[str, Any]) -> tuple[str, list[tuple[int, int]]]:
    """The text that the template writes, and the parts of it that the assistant wrote. ValueError: see chat.render."""
    use = _Use()
    token = _use.set(use)
    try:
        return "".join(_pieces(_compiled(template).generate(**variables), use)), use.answers
    except jinja2.exceptions.TemplateSyntaxError as error:
        raise ValueError(f"the chat template cannot be read: {error.message} (line {error.lineno})") from None
    except jinja2.exceptions.SecurityError as error:
        raise ValueError(f"the chat template does what a template may not: {error}") from None
    except jinja2.exceptions.TemplateError as error:
        raise ValueError(f"the chat template refuses these messages: {error}") from None
    except TooMuch as error:
        raise ValueError(f"the chat template was stopped: {error}") from None
    except (RecursionError, MemoryError) as error:
        raise ValueError(f"the chat template was stopped: {type(error).__name__}") from None
    except Exception as error:  # what a template computes with these messages may fail in any way
        raise ValueError(f"the chat template fails with these messages: {type(error).__name__}: {error}") from None
    finally:
        _use.reset(token)


def _pieces(written: Iterable[str], use: _Use) -> Iterator[str]:
    for piece in written:
        use.length += len(piece)
        _sized(use.length)
        yield piece
