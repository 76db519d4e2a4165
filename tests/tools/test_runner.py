"""Operators' functions at work: results, failures, time limits, and threads that never come back."""

from __future__ import annotations

import asyncio  # what a tool may be written for; nothing of ours is
import enum
import json
import sys
import threading
import time
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any

import msgspec
import pytest
import structlog
import trio

from sts_trio.tools import CallContext, ToolError
from sts_trio.tools.runner import MOST_CHARACTERS, _Task, threaded_tool
from sts_trio.tools.tool import ToolResult, describe

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator

    from structlog.typing import EventDict

    from sts_trio.tools.tool import Tool

CALL = CallContext("u-1", {"from": "2000"})
HERE = Path(__file__)


def made(function: Callable[..., object], seconds: float = 5, most_threads: int = 16) -> Tool:
    return threaded_tool(function, describe(function), HERE, seconds=seconds, most_threads=most_threads)


@pytest.fixture
def lines() -> Iterator[list[EventDict]]:
    with structlog.testing.capture_logs() as logs:
        yield logs


@pytest.fixture
def gate() -> Iterator[threading.Event]:
    """What holds threads back until the test is over."""
    event = threading.Event()
    yield event
    event.set()


@dataclass
class Slot:
    day: str
    free: bool


class Tone(enum.StrEnum):
    LOW = "low"


class Word(str):
    __slots__ = ()


class Packet(msgspec.Struct):
    size: int


@pytest.mark.parametrize(
    ("result", "content"),
    [
        ("as it is", "as it is"),
        (Word("a kind of str"), "a kind of str"),
        ("", "(empty)"),
        (None, "done"),
        (True, "true"),
        (7, "7"),
        (0.5, "0.5"),
        ({"open": True, "until": "18:00"}, '{"open":true,"until":"18:00"}'),
        ([Slot("Monday", True)], '[{"day":"Monday","free":true}]'),
        (Packet(3), '{"size":3}'),
        (Tone.LOW, '"low"'),
        ("half a character: \ud800", "half a character: ?"),
    ],
)
@pytest.mark.parametrize("style", ["plain", "async"])
async def test_a_result_becomes_text(style: str, result: object, content: str) -> None:
    def plain() -> object:
        """Give it."""
        return result

    async def waiting() -> object:
        """Give it."""
        await trio.lowlevel.checkpoint()
        return result

    assert await made(plain if style == "plain" else waiting).run("", CALL) == ToolResult(content)


async def test_a_long_result_is_cut_and_says_so() -> None:
    def much(times: int) -> str:
        """Give much."""
        return "ab" * times

    tool = made(much)
    assert (await tool.run(json.dumps({"times": MOST_CHARACTERS // 2}), CALL)).content == "ab" * (MOST_CHARACTERS // 2)
    cut = (await tool.run('{"times": 100000}', CALL)).content
    assert len(cut) == MOST_CHARACTERS
    text, _, note = cut.partition("\n")
    assert text == ("ab" * 100_000)[: len(text)]
    assert note == "(cut: the whole has 200000 characters)"


async def test_a_tool_gets_its_arguments_and_the_call() -> None:
    def who(name: str, call: CallContext, times: int = 2) -> str:
        """Say who."""
        return f"{name} {times} {call.uuid} {call.query['from']}"

    assert await made(who).run('{"name": "Ann"}', CALL) == ToolResult("Ann 2 u-1 2000")


async def test_wrong_arguments_are_told_and_the_function_is_not_run(lines: list[EventDict]) -> None:
    ran = []

    def add(number: int) -> None:
        """Add a number."""
        ran.append(number)

    result = await made(add).run('{"number": "many"}', CALL)
    assert result == ToolResult("wrong arguments for add: `number`: Expected `int`, got `str`", failed=True)
    assert not ran
    assert not lines


async def test_each_run_is_in_a_thread_and_an_async_one_has_a_loop_of_its_own() -> None:
    seen: dict[str, object] = {}

    def plain() -> None:
        """Look."""
        seen["plain"] = threading.get_ident()

    async def waiting() -> None:
        """Look."""
        seen["waiting"] = threading.get_ident()
        seen["loop"] = trio.lowlevel.current_trio_token()
        await trio.to_thread.run_sync(lambda: None)

    await made(plain).run("", CALL)
    await made(waiting).run("", CALL)
    assert threading.get_ident() not in seen.values()
    assert seen["loop"] is not trio.lowlevel.current_trio_token()


async def test_what_a_tool_has_to_say_reaches_the_agent_and_not_the_log(lines: list[EventDict]) -> None:
    def refuse() -> None:
        """Refuse."""
        raise ToolError("there is no order 17")

    async def refuse_in_a_nursery() -> None:
        """Refuse."""
        async with trio.open_nursery() as nursery:
            nursery.start_soon(trio.sleep_forever)
            raise ToolError("there is no order 18")

    def refuse_without_a_word() -> None:
        """Refuse."""
        raise ToolError

    assert await made(refuse).run("", CALL) == ToolResult("there is no order 17", failed=True)
    assert await made(refuse_in_a_nursery).run("", CALL) == ToolResult("there is no order 18", failed=True)
    assert await made(refuse_without_a_word).run("", CALL) == ToolResult("refuse_without_a_word failed", failed=True)
    assert not lines


def _line(function: Callable[..., object], words: str) -> int:
    """Return the number of the line of `function` that begins with `words`."""
    first = function.__code__.co_firstlineno
    body = HERE.read_text(encoding="utf-8").splitlines()[first - 1 :]
    return first + next(number for number, line in enumerate(body) if line.strip().startswith(words))


@pytest.mark.parametrize(
    "exc",
    [
        ValueError("caller's secret"),
        KeyError("caller's secret"),
        SystemExit("caller's secret"),
        KeyboardInterrupt("caller's secret"),
        GeneratorExit("caller's secret"),
        StopIteration("caller's secret"),
        TimeoutError("caller's secret"),
        BaseExceptionGroup("caller's secret", [KeyboardInterrupt("caller's secret")]),
        ExceptionGroup("caller's secret", [ExceptionGroup("caller's secret", [ValueError("caller's secret")])]),
    ],
    ids=lambda exc: type(exc).__name__,
)
@pytest.mark.parametrize("style", ["plain", "async"])
async def test_any_exception_is_one_line_in_the_log_without_its_words(
    style: str, exc: BaseException, lines: list[EventDict], capfd: pytest.CaptureFixture[str]
) -> None:
    def plain() -> None:
        """Fail."""
        raise exc

    async def waiting() -> None:
        """Fail."""
        await trio.lowlevel.checkpoint()
        raise exc

    function = plain if style == "plain" else waiting
    result = await made(function).run("", CALL)
    assert result == ToolResult(f"{function.__name__} failed", failed=True)
    (line,) = lines
    while isinstance(exc, BaseExceptionGroup):
        exc = exc.exceptions[0]
    # A coroutine cannot raise StopIteration: Python makes a RuntimeError of it.
    kind = "RuntimeError" if isinstance(exc, StopIteration) and style == "async" else type(exc).__name__
    assert {key: line[key] for key in ("log_level", "event", "tool", "error")} == {
        "log_level": "warning",
        "event": "tool failed",
        "tool": function.__name__,
        "error": kind,
    }
    assert "secret" not in str(lines)
    assert capfd.readouterr() == ("", "")


async def test_the_log_names_the_innermost_line_of_the_tools_file(lines: list[EventDict]) -> None:
    def parse() -> object:
        """Parse."""
        return json.loads("{")

    await made(parse).run("", CALL)
    assert lines[0]["where"] == f"test_runner.py:{_line(parse, 'return json')}"
    assert lines[0]["error"] == "JSONDecodeError"


@pytest.mark.parametrize("result", [object(), {"a": object()}, 10**30j, lambda: None])
async def test_a_result_that_json_cannot_say_is_a_failure(result: object, lines: list[EventDict]) -> None:
    def give() -> object:
        """Give it."""
        return result

    assert await made(give).run("", CALL) == ToolResult("give failed", failed=True)
    assert lines[0]["error"] == "TypeError"


async def test_a_result_that_contains_itself_is_a_failure() -> None:
    def give() -> object:
        """Give it."""
        result: list[Any] = []
        result.append(result)
        return result

    assert (await made(give).run("", CALL)).failed


async def test_code_for_asyncio_fails_and_says_so_in_the_log(lines: list[EventDict]) -> None:
    async def wait() -> None:
        """Wait."""
        await asyncio.sleep(0.01)

    assert (await made(wait).run("", CALL)).failed
    assert lines[0]["error"] == "RuntimeError"


async def test_a_plain_function_is_left_behind_when_its_time_is_up(
    gate: threading.Event, lines: list[EventDict]
) -> None:
    def hang() -> None:
        """Hang."""
        gate.wait()

    began = trio.current_time()
    result = await made(hang, seconds=0.1).run("", CALL)
    assert trio.current_time() - began < 1
    assert result == ToolResult("hang took longer than 0.1 s", failed=True)
    (line,) = lines
    assert (line["event"], line["tool"], line["threads"]) == ("tool too slow", "hang", 1)


async def test_an_async_function_is_cancelled_when_its_time_is_up() -> None:
    ended = threading.Event()

    async def hang() -> None:
        """Hang."""
        try:
            await trio.sleep_forever()
        finally:
            ended.set()

    assert await made(hang, seconds=0.1).run("", CALL) == ToolResult("hang took longer than 0.1 s", failed=True)
    assert await trio.to_thread.run_sync(ended.wait, 5)


async def test_an_async_function_that_blocks_is_left_behind(gate: threading.Event) -> None:
    async def hang() -> None:
        """Hang."""
        gate.wait()

    with trio.fail_after(1):
        assert (await made(hang, seconds=0.1).run("", CALL)).failed


@pytest.mark.parametrize("style", ["plain", "async"])
async def test_who_asked_may_be_cancelled_at_any_time(
    style: str, gate: threading.Event, lines: list[EventDict]
) -> None:
    begun, ended = threading.Event(), threading.Event()

    def plain() -> None:
        """Hang."""
        begun.set()
        gate.wait()

    async def waiting() -> None:
        """Hang."""
        begun.set()
        try:
            await trio.sleep_forever()
        finally:
            ended.set()

    tool = made(plain if style == "plain" else waiting)
    with trio.fail_after(5):
        async with trio.open_nursery() as nursery:
            nursery.start_soon(tool.run, "", CALL)
            await trio.to_thread.run_sync(begun.wait)
            nursery.cancel_scope.cancel()
        if style == "async":
            assert await trio.to_thread.run_sync(ended.wait, 5)
    assert not lines


async def test_who_is_cancelled_already_runs_nothing() -> None:
    ran = []

    def run() -> None:
        """Run."""
        ran.append(1)

    with trio.CancelScope() as scope:
        scope.cancel()
        await made(run).run("", CALL)
    assert scope.cancelled_caught
    assert not ran


async def test_a_cut_that_comes_before_the_loop_still_ends_it() -> None:
    """The race that cannot be staged from outside: the caller gives up while the thread is starting its loop."""

    async def hang() -> None:
        """Hang."""
        await trio.sleep_forever()

    task = _Task(hang, describe(hang))
    task.cut()
    with trio.fail_after(5):
        await trio.to_thread.run_sync(task.run, "", CALL)


async def test_a_tool_that_hangs_starves_itself_only(gate: threading.Event) -> None:
    def hang() -> None:
        """Hang."""
        gate.wait()

    def work() -> str:
        """Work."""
        return "worked"

    hanging, working = made(hang, 0.2, most_threads=2), made(work, 0.2, most_threads=2)
    answers = []

    async def ask() -> None:
        answers.append((await hanging.run("", CALL)).content)

    async with trio.open_nursery() as nursery:
        for _ in range(5):
            nursery.start_soon(ask)
    assert (
        sorted(answers)
        == ["hang is busy: its earlier requests have not ended"] * 3 + ["hang took longer than 0.2 s"] * 2
    )
    assert (await hanging.run("", CALL)).content.startswith("hang is busy")
    assert await working.run("", CALL) == ToolResult("worked")
    gate.set()
    with trio.fail_after(5):
        while (await hanging.run("", CALL)).failed:
            await trio.sleep(0.01)


async def test_a_system_without_threads_is_a_failure_of_the_tool(
    monkeypatch: pytest.MonkeyPatch, lines: list[EventDict]
) -> None:
    async def no_thread(*args: object, **kwargs: object) -> None:
        raise RuntimeError("can't start new thread")

    def work() -> str:
        """Work."""
        return "worked"

    monkeypatch.setattr(trio.to_thread, "run_sync", no_thread)
    assert await made(work).run("", CALL) == ToolResult("work failed", failed=True)
    assert lines[0]["error"] == "RuntimeError"


async def test_a_late_failure_of_one_left_behind_is_nobodys(
    gate: threading.Event, lines: list[EventDict], capfd: pytest.CaptureFixture[str]
) -> None:
    ended = threading.Event()

    def hang() -> None:
        """Hang."""
        gate.wait()
        ended.set()
        sys.exit("late")

    await made(hang, seconds=0.05).run("", CALL)
    gate.set()
    assert await trio.to_thread.run_sync(ended.wait, 5)
    await trio.sleep(0.02)
    assert [line["event"] for line in lines] == ["tool too slow"]
    assert capfd.readouterr() == ("", "")


def block(seconds: float) -> None:
    """Wait as no async function should."""
    time.sleep(seconds)


@pytest.mark.parametrize("style", ["plain", "async"])
async def test_a_tool_that_blocks_holds_up_no_tick_of_a_call(style: str) -> None:
    def plain() -> None:
        """Block."""
        block(0.3)

    async def waiting() -> None:
        """Block."""
        block(0.3)

    late = []

    async def tick() -> None:
        began = trio.current_time()
        for number in range(1, 1_000):
            await trio.sleep_until(began + number * 0.02)
            late.append(trio.current_time() - began - number * 0.02)

    async with trio.open_nursery() as nursery:
        nursery.start_soon(tick)
        await made(plain if style == "plain" else waiting).run("", CALL)
        nursery.cancel_scope.cancel()
    assert len(late) >= 10
    assert sorted(late)[len(late) // 2] < 0.02  # measured: 1 ms; a loaded machine may be late now and then
