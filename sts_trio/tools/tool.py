"""A function tool: what the agent is told of it, and how it is run. Pure values; the work is in `run`."""

from __future__ import annotations

from dataclasses import dataclass, field
from typing import TYPE_CHECKING

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
