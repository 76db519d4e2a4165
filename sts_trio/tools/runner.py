"""Runs an operator's function for a call: in a thread of its own, within a time limit, whatever it does.

Every function runs in a worker thread, an async one with a trio loop of its own there: a tool that blocks where it
should wait holds up its own answer, and no call's audio. A thread cannot be stopped. One whose time is up is left
behind, and its result, if ever there is one, is thrown away.
"""

from __future__ import annotations

import inspect
from contextlib import suppress
from dataclasses import dataclass
from enum import Enum
from typing import TYPE_CHECKING, Any

import msgspec
import structlog
import trio

from sts_trio.text import first_error
from sts_trio.tools.tool import Tool, ToolError, ToolResult

if TYPE_CHECKING:
    from collections.abc import Awaitable, Callable
    from pathlib import Path
    from types import TracebackType

    from sts_trio.tools.tool import CallContext, FunctionSchema

log = structlog.get_logger(__name__)

# Threads that one tool may have at once, those left behind among them: one that hangs starves only itself.
MOST_THREADS = 16
# Some 8,000 tokens: more than an agent can make use of in a conversation.
MOST_CHARACTERS = 32_000


def threaded_tool(
    function: Callable[..., object],
    schema: FunctionSchema,
    file: Path,
    *,
    seconds: float,
    most_threads: int = MOST_THREADS,
    on_fault: Callable[[BaseException], object] | None = None,
) -> Tool:
    """Make a tool of `function`, which was defined in `file`; an answer takes at most `seconds`.

    `on_fault` is shown what the function raised, which no log may hold.
    """
    limiter = trio.CapacityLimiter(most_threads)

    async def run(arguments: str, call: CallContext) -> ToolResult:
        task = _Task(function, schema)
        came: ToolResult | _Fault | None = None
        try:
            with trio.move_on_after(seconds):
                came = await trio.to_thread.run_sync(
                    task.run,
                    arguments,
                    call,
                    abandon_on_cancel=True,
                    limiter=limiter,
                    thread_name=f"tool {schema.name}",
                )
        except Exception as exc:  # the task answers for the function: this is a system that gives no more threads
            came = _Fault(exc)
        finally:
            task.cut()
        if isinstance(came, ToolResult):
            return came
        if isinstance(came, _Fault):
            if on_fault is not None:
                on_fault(came.cause)
            log.warning("tool failed", tool=schema.name, error=came.kind, where=came.where(file))
            return ToolResult(f"{schema.name} failed", failed=True)
        log.warning("tool too slow", tool=schema.name, seconds=seconds, threads=limiter.borrowed_tokens)
        if not task.begun:
            return ToolResult(f"{schema.name} is busy: its earlier requests have not ended", failed=True)
        return ToolResult(f"{schema.name} took longer than {seconds:g} s", failed=True)

    return Tool(schema.name, schema.description, schema.parameters, run, schema.check)


class _Task:
    """One run of a function, in its thread, and what can end it from outside."""

    def __init__(self, function: Callable[..., object], schema: FunctionSchema) -> None:
        self.begun = False
        self._function = function
        self._schema = schema
        self._scope = trio.CancelScope()
        self._token: trio.lowlevel.TrioToken | None = None
        self._over = False

    def run(self, arguments: str, call: CallContext) -> ToolResult | _Fault:
        """Run the function to its end, in this thread. Raises nothing."""
        self.begun = True
        try:
            result = self._function(**self._schema.bind(arguments, call))
            if inspect.isawaitable(result):
                result = trio.run(self._wait, result)
            return ToolResult(_as_text(result))
        except BaseException as exc:  # sys.exit() and the like end the tool only
            cause = _cause(exc)
            if isinstance(cause, ToolError):
                return ToolResult(_cut(str(cause)) or f"{self._schema.name} failed", failed=True)
            return _Fault(cause)

    async def _wait(self, result: Awaitable[object]) -> object:
        self._token = trio.lowlevel.current_trio_token()
        if self._over:  # `cut` came before there was a token
            self._scope.cancel()
        with self._scope:
            return await result
        return None

    def cut(self) -> None:
        """Cancel what an async function still does; called from the service's thread."""
        self._over = True
        if self._token is not None:
            with suppress(trio.RunFinishedError):
                self._token.run_sync_soon(self._scope.cancel)


@dataclass(frozen=True, slots=True)
class _Fault:
    """What a function raised. Its words stay here: they may hold what a caller said."""

    cause: BaseException

    @property
    def kind(self) -> str:
        """The type of the exception."""
        return type(self.cause).__qualname__

    def where(self, file: Path) -> str:
        """The innermost line of `file` that it came through."""
        line = innermost_line(self.cause.__traceback__, file)
        return f"{file.name}:{line}" if line else file.name


def innermost_line(traceback: TracebackType | None, file: Path) -> int | None:
    """Return the number of the last line of `file` that a traceback goes through."""
    found = None
    while traceback is not None:
        if traceback.tb_frame.f_code.co_filename == str(file):
            found = traceback.tb_lineno
        traceback = traceback.tb_next
    return found


def _cause(exc: BaseException) -> BaseException:
    """Return what a nursery's group was made of: what the tool has to say, if anything, else the first."""
    if isinstance(exc, BaseExceptionGroup):
        exc = exc.subgroup(ToolError) or exc
    return first_error(exc)


def _as_text(result: Any) -> str:
    if result is None:
        return "done"
    if isinstance(result, str) and not isinstance(result, Enum):
        return _cut(result) or "(empty)"
    return _cut(msgspec.json.encode(result).decode())


def _cut(text: str) -> str:
    """Bring text to what can be sent: not too long, and no halves of characters."""
    whole = text.encode("utf-8", "replace").decode()
    if len(whole) <= MOST_CHARACTERS:
        return whole
    note = f"\n(cut: the whole has {len(whole)} characters)"
    return whole[: MOST_CHARACTERS - len(note)] + note
