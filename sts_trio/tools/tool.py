"""A function tool: what the agent is told of it, and how it gets an agent's arguments. Pure.

Type hints give the JSON Schema, the docstring the descriptions (Google, numpy and reST styles). In an `Annotated`,
`msgspec.Meta(description=...)` stands above the docstring.
"""

from __future__ import annotations

import inspect
import re
from dataclasses import dataclass, field
from types import NoneType, UnionType
from typing import TYPE_CHECKING, Annotated, Any, NewType, Union, get_args, get_origin, get_type_hints

import docstring_parser
import msgspec

if TYPE_CHECKING:
    from collections.abc import Awaitable, Callable, Mapping


class ToolError(Exception):
    """Raised by a tool to say why it cannot do what it was asked: the agent hears the text, and can tell the caller."""


@dataclass(frozen=True, slots=True)
class CallContext:
    """The call that a tool works for. A parameter of a custom tool with this type gets it.

    `uuid` is Core's id of the call, None if it gave none. `query` holds the parameters of the URL that Core called
    (``from``, ``to``, ...; docs/protocols/core.md 6.1): they come from outside and may be anything.
    """

    uuid: str | None = None
    query: Mapping[str, str] = field(default_factory=dict, repr=False)


@dataclass(frozen=True, slots=True)
class ToolResult:
    """What a tool came to: text for the agent. `failed`: it could not be carried out, and the text says why."""

    content: str = field(repr=False)
    failed: bool = False


def _takes_all(_: str) -> str | None:
    return None


@dataclass(frozen=True, slots=True)
class Tool:
    """A tool that agents may ask for.

    `parameters` is the JSON Schema of the arguments, as text. `run` takes the arguments (JSON text, unchecked) and the
    call; it answers within its own time limit, and raises nothing but `trio.Cancelled`. `check` says what is wrong with
    arguments, or None: for a tool that would have to wait first, and at start for what an operator wrote. `ends_call`:
    it takes the telephone call away from the agent, so it waits until the caller has heard the good-bye, and it is
    offered only in calls that Core gave a real uuid. `hangs_up`: once it has succeeded, the call is over on our side.
    """

    name: str
    description: str
    parameters: str
    run: Callable[[str, CallContext], Awaitable[ToolResult]] = field(repr=False)
    check: Callable[[str], str | None] = field(default=_takes_all, repr=False)
    ends_call: bool = False
    hangs_up: bool = False


_NAME = re.compile(r"[a-zA-Z0-9_-]{1,64}")  # what the vendors of language models agree on
_WHERE = re.compile(r"(?P<what>.*) - at `\$\.(?P<path>.+)`", re.DOTALL)  # how msgspec says where a value is wrong
_FENCE = re.compile(r"```[a-zA-Z0-9]*\s(.*)```", re.DOTALL)


class NotATool(Exception):
    """A function cannot be offered to an agent. The message is one line: what is wrong, and what to do."""


@dataclass(frozen=True, slots=True)
class FunctionSchema:
    """What an agent is told of a function, and how what it asks for is read.

    `parameters` is the JSON Schema of the arguments, as text.
    """

    name: str
    description: str
    parameters: str
    _arguments: type[msgspec.Struct] = field(repr=False)
    _hints: Mapping[str, Any] = field(repr=False)
    _optional: frozenset[str] = frozenset()
    _for_call: tuple[str, ...] = ()

    def bind(self, arguments: str, call: CallContext) -> dict[str, Any]:
        """Return the function's keyword arguments, from JSON text. What the function does not know is left out.

        Text that reads as a number is taken for one, and a number for text: models mix them up ("2000" and 2000).
        A null for what may be left out means that it was left out.

        Raises:
            ToolError: they do not fit; the message tells the agent which one and why.
        """
        given = _read_object(arguments)
        for name, hint in self._hints.items():
            kinds = _kinds(hint)
            if given.get(name, ...) is None and name in self._optional and not {NoneType, Any} & kinds:
                del given[name]
            elif isinstance(given.get(name), int | float) and str in kinds and not {int, float, bool, Any} & kinds:
                given[name] = _number_as_text(given[name])
        try:
            read = msgspec.convert(given, self._arguments, strict=False)
        except (ValueError, RecursionError) as exc:  # msgspec's own errors are ValueErrors
            raise ToolError(f"wrong arguments for {self.name}: {_reason(exc)}") from exc
        values = {name: getattr(read, name) for name in self._hints}
        bound = {name: value for name, value in values.items() if value is not msgspec.UNSET}
        return bound | dict.fromkeys(self._for_call, call)

    def check(self, arguments: str) -> str | None:
        """Return what is wrong with arguments, as `bind` would say it; None if nothing is."""
        try:
            self.bind(arguments, CallContext())
        except ToolError as exc:
            return str(exc)
        return None


def describe(function: Callable[..., object], name: str | None = None) -> FunctionSchema:
    """Read what agents are told of `function` from its signature and docstring. `name` is its own unless given.

    Raises:
        NotATool: an agent could not call it.
    """
    name = name or str(getattr(function, "__name__", ""))
    if not _NAME.fullmatch(name):
        raise NotATool(f"`{name}` is no name for a tool: use 1 to 64 of a-z, A-Z, 0-9 and _")
    plain = inspect.unwrap(function)
    if inspect.isgeneratorfunction(plain) or inspect.isasyncgenfunction(plain):
        raise NotATool(f"{name} yields: let it return its result")
    text = docstring_parser.parse(inspect.getdoc(plain) or "")
    if not (description := (text.description or "").strip()):
        raise NotATool(f"{name} has no docstring: say in it what the tool does, and when to use it")
    hints, for_call, defaults = _parameters(name, function, plain)
    struct, schema = _object_schema(name, hints, defaults)
    documented = {each.arg_name: each.description for each in text.params if each.description}
    for parameter, part in schema["properties"].items():
        if parameter in documented:
            part.setdefault("description", " ".join(documented[parameter].split()))
    parameters = msgspec.json.encode(schema).decode()
    return FunctionSchema(name, description, parameters, struct, hints, frozenset(defaults), for_call)


def _parameters(
    name: str, function: Callable[..., object], plain: Callable[..., object]
) -> tuple[dict[str, Any], tuple[str, ...], dict[str, object]]:
    """Return the types of what the agent gives, the names of what is given the call, and the defaults."""
    try:
        signature = inspect.signature(function)
        known = get_type_hints(plain, include_extras=True)
    except NameError as exc:
        raise NotATool(
            f"{name} has a type that is not known, {exc.name}: import it at the top, not under `if TYPE_CHECKING`"
        ) from exc
    except Exception as exc:  # hints are code, and may fail in any way
        raise NotATool(f"the type hints of {name} cannot be read: {_first_line(exc)}") from exc
    hints: dict[str, Any] = {}
    defaults: dict[str, object] = {}
    for_call = []
    for parameter in signature.parameters.values():
        if parameter.kind in (parameter.VAR_POSITIONAL, parameter.VAR_KEYWORD):
            raise NotATool(f"{name} takes `{parameter}`: give each parameter a name and a type of its own")
        if parameter.kind is parameter.POSITIONAL_ONLY:
            raise NotATool(f"the parameter {parameter.name} of {name} is positional-only: take the `/` away")
        if parameter.name not in known:
            raise NotATool(f"the parameter {parameter.name} of {name} has no type: write `{parameter.name}: str`, say")
        hint = known[parameter.name]
        if hint is CallContext or hint == (CallContext | None):
            for_call.append(parameter.name)
            continue
        hints[parameter.name] = hint
        if parameter.default is not parameter.empty:
            defaults[parameter.name] = parameter.default
    return hints, tuple(for_call), defaults


def _object_schema(
    name: str, hints: Mapping[str, Any], defaults: Mapping[str, object]
) -> tuple[type[msgspec.Struct], dict[str, Any]]:
    for parameter, hint in hints.items():  # one by one, to name the one that is at fault
        try:
            msgspec.json.schema_components([hint])
        except Exception as exc:  # its nested types bring their own hints, which are code
            raise NotATool(
                f"the type of the parameter {parameter} of {name} cannot be described in JSON ({_first_line(exc)}): "
                "use str, int, float, bool, list, dict, Literal, an Enum or a dataclass of those"
            ) from exc
    # What is left out stays UNSET, and the function's own default holds.
    fields = [(each, hint, msgspec.UNSET) if each in defaults else (each, hint) for each, hint in hints.items()]
    try:
        struct = msgspec.defstruct(name, fields, kw_only=True)
        (top,), parts = msgspec.json.schema_components([struct], ref_template="#/$defs/{name}")
    except Exception as exc:
        raise NotATool(f"the parameters of {name} cannot be described in JSON: {_first_line(exc)}") from exc
    own = parts.pop(top["$ref"].rpartition("/")[2])
    schema: dict[str, Any] = {key: own[key] for key in ("type", "properties", "required")}
    for parameter, default in defaults.items():
        try:
            schema["properties"][parameter]["default"] = msgspec.to_builtins(default)
        except (TypeError, ValueError):
            continue  # a sentinel of the function's own: nothing to tell the agent
    return struct, schema | ({"$defs": parts} if parts else {})


def _kinds(hint: Any) -> set[Any]:
    """Return the types that a hint allows at its top: those of a union, without what annotates them."""
    if isinstance(hint, NewType):
        return _kinds(hint.__supertype__)
    origin = get_origin(hint)
    if origin is Annotated:
        return _kinds(get_args(hint)[0])
    if origin is Union or origin is UnionType:
        return set().union(*map(_kinds, get_args(hint)))
    return {origin or hint}


def _read_object(arguments: str) -> dict[str, Any]:
    """Read an object as models write it: also in a code fence, or as JSON text in JSON."""
    given: object = arguments
    for _ in range(2):
        if isinstance(given, str):
            given = _read_json(_unfenced(given))
    if given is None:
        return {}
    if not isinstance(given, dict):
        raise ToolError("the arguments must be a JSON object")
    return given


def _read_json(text: str) -> object:
    if not text:
        return None
    try:
        return msgspec.json.decode(text)
    except (ValueError, RecursionError) as exc:
        raise ToolError(f"the arguments are no JSON that can be read: {_reason(exc)}") from exc


def _unfenced(text: str) -> str:
    text = text.strip()
    fence = _FENCE.fullmatch(text)
    return fence[1].strip() if fence else text


def _number_as_text(value: object) -> object:
    if isinstance(value, bool):
        return value
    return str(int(value) if isinstance(value, float) and value.is_integer() else value)


def _reason(exc: Exception) -> str:
    if isinstance(exc, RecursionError):
        return "nested too deeply"
    if isinstance(exc, UnicodeError):
        return "half a character"
    words = str(exc)
    if at := _WHERE.fullmatch(words):
        return f"`{at['path']}`: {at['what']}"
    return words


def _first_line(exc: Exception) -> str:
    """Say what an exception says on one line; of msgspec's longer texts the last names the type."""
    lines = str(exc).splitlines() or [type(exc).__name__]
    return lines[-1][:200]
