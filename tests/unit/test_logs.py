"""Log lines: JSON for machines, key=value for people, those of libraries too, and nothing secret in a traceback."""

from __future__ import annotations

import ast
import contextvars
import io
import json
import logging
import re
from pathlib import Path
from typing import Any

import pytest
import structlog
import trio

import sts_trio
from sts_trio.logs import name_call, rename_call, set_up_logging
from tests.unit.spellings import ODD_KEY, SPELLINGS

pytestmark = pytest.mark.usefixtures("restored_logging")
SOURCE = Path(sts_trio.__file__).parent


class Terminal(io.StringIO):
    """A stream that a person looks at."""

    def isatty(self) -> bool:
        return True


def json_lines(stream: io.StringIO) -> list[dict[str, Any]]:
    return [json.loads(line) for line in stream.getvalue().splitlines()]


def test_json_has_one_object_a_line_with_event_level_time_and_values() -> None:
    stream = io.StringIO()
    set_up_logging("info", "json", stream)
    log = structlog.get_logger("sts_trio.test")
    log.info("call over", call="a b", seconds=1.5, note="two\nlines “quoted” grüße")
    log.warning("again")
    first, second = json_lines(stream)
    assert {name: first[name] for name in ("event", "level", "call", "seconds", "note")} == {
        "event": "call over",
        "level": "info",
        "call": "a b",
        "seconds": 1.5,
        "note": "two\nlines “quoted” grüße",
    }
    assert first["timestamp"].endswith("Z")
    assert second["level"] == "warning"
    assert "grüße" in stream.getvalue()  # people read it as well


@pytest.mark.parametrize("logger", [structlog.get_logger(), logging.getLogger("hypercorn.error")])
def test_each_line_of_a_worker_has_its_number(logger: Any) -> None:
    stream = io.StringIO()
    set_up_logging("info", "json", stream, worker=3)
    logger.warning("hello")
    assert [line["worker"] for line in json_lines(stream)] == [3]


def test_values_that_are_no_json_are_written_all_the_same() -> None:
    stream = io.StringIO()
    set_up_logging("info", "json", stream)
    structlog.get_logger().info("odd", path=io.StringIO, data=b"\xff", number=float("inf"))
    assert len(stream.getvalue().splitlines()) == 1


def test_text_is_one_line_of_key_and_value_without_colours() -> None:
    stream = io.StringIO()
    set_up_logging("info", "text", stream)
    structlog.get_logger().info("call over", call="c-1", seconds=1.5)
    [line] = stream.getvalue().splitlines()
    for part in ("info", "call over", "call=c-1", "seconds=1.5"):
        assert part in line
    assert "\x1b" not in line


@pytest.mark.parametrize(("stream", "is_json"), [(io.StringIO(), True), (Terminal(), False)])
def test_auto_is_text_on_a_terminal_and_json_elsewhere(stream: io.StringIO, *, is_json: bool) -> None:
    set_up_logging("info", "auto", stream)
    structlog.get_logger().info("hello")
    assert stream.getvalue().startswith("{") == is_json


@pytest.mark.parametrize("logger", [structlog.get_logger("sts_trio.call"), logging.getLogger("sts_trio.call")])
def test_each_line_begins_with_time_level_and_event_and_says_who_wrote_it(logger: Any) -> None:
    stream = io.StringIO()
    set_up_logging("info", "json", stream, worker=3)

    def write() -> None:
        name_call("c-1")
        logger.warning("hello")

    contextvars.copy_context().run(write)
    [line] = json_lines(stream)
    assert list(line)[:6] == ["timestamp", "level", "event", "logger", "worker", "call"]
    assert (line["logger"], line["worker"], line["call"]) == ("sts_trio.call", 3, "c-1")


def test_a_line_without_a_logger_s_name_or_a_call_is_written_all_the_same() -> None:
    stream = io.StringIO()
    set_up_logging("info", "json", stream)
    rename_call("nobody's")
    structlog.get_logger().info("hello")
    [line] = json_lines(stream)
    assert (line["logger"], "call" in line) == ("", False)


async def test_every_line_of_a_call_has_its_present_id_in_tasks_and_threads_and_those_of_libraries() -> None:
    """Core's own id is known only when tasks have begun."""
    stream = io.StringIO()
    set_up_logging("info", "json", stream)
    log, library, renamed = structlog.get_logger("ours"), logging.getLogger("library"), trio.Event()

    async def work(number: int) -> None:
        log.info("work begins", number=number)
        await renamed.wait()
        log.info("work ends", number=number)
        library.warning("odd")
        await trio.to_thread.run_sync(in_a_thread)

    def in_a_thread() -> None:
        log.info("in a thread")
        trio.run(in_a_loop_of_its_own)

    async def in_a_loop_of_its_own() -> None:
        log.info("in a loop of its own")

    async def call(number: int) -> None:
        name_call(f"call-{number}")
        async with trio.open_nursery() as nursery:
            nursery.start_soon(work, number)
            await trio.sleep(0.01)
            rename_call(f"uuid-{number}")
            if number == 2:
                renamed.set()

    async with trio.open_nursery() as nursery:
        for number in (1, 2):
            nursery.start_soon(call, number)
    log.info("no call")
    lines = json_lines(stream)
    began = {line["number"]: line["call"] for line in lines if line["event"] == "work begins"}
    ended = {line["number"]: line["call"] for line in lines if line["event"] == "work ends"}
    assert (began, ended) == ({1: "call-1", 2: "call-2"}, {1: "uuid-1", 2: "uuid-2"})
    for event in ("odd", "in a thread", "in a loop of its own"):
        assert sorted(line["call"] for line in lines if line["event"] == event) == ["uuid-1", "uuid-2"], event
    assert "call" not in lines[-1]


def constant(event: ast.expr) -> bool:
    return isinstance(event, ast.Constant) and "%" not in str(event.value)


@pytest.mark.parametrize("path", sorted(SOURCE.rglob("*.py")), ids=lambda path: str(path.relative_to(SOURCE)))
def test_events_are_constant_words_and_no_line_names_its_call_itself(path: Path) -> None:
    for node in ast.walk(ast.parse(path.read_text())):
        match node:
            case ast.Call(func=ast.Name("LogWarning"), args=[event, *_]):
                assert constant(event), f"{path.name}:{node.lineno}"
            case ast.Call(func=ast.Attribute(ast.Name("log" | "logger"), attr), args=[event, *_], keywords=fields):
                ours = attr in ("debug", "info", "warning", "error", "exception")
                passed_on = isinstance(event, ast.Name) and event.id == "event"
                assert not ours or passed_on or constant(event), f"{path.name}:{node.lineno}"
                assert "call" not in [field.arg for field in fields], f"{path.name}:{node.lineno}"
            case ast.Call(func=ast.Attribute(ast.Name("logging"), "getLogger"), args=[ast.Name("__name__")]):
                pytest.fail(f"{path.name}:{node.lineno}: use structlog")


@pytest.mark.parametrize(
    ("level", "kept"),
    [("debug", "dbg inf wrn err"), ("info", "inf wrn err"), ("warning", "wrn err"), ("error", "err")],
)
def test_the_level_is_the_least_important_line(level: str, kept: str) -> None:
    stream = io.StringIO()
    set_up_logging(level, "json", stream)
    log = structlog.get_logger()
    log.debug("dbg")
    log.info("inf")
    log.warning("wrn")
    log.error("err")
    assert [line["event"] for line in json_lines(stream)] == kept.split()


# Libraries log with the standard library.


def test_lines_of_libraries_come_through_in_the_same_form_with_their_name() -> None:
    stream = io.StringIO()
    set_up_logging("info", "json", stream)
    logging.getLogger("hypercorn.error").warning("odd request from %s", "peer")
    [line] = json_lines(stream)
    assert (line["event"], line["level"], line["logger"]) == (
        "odd request from peer",
        "warning",
        "hypercorn.error",
    )
    assert "timestamp" in line


def test_lines_of_libraries_come_through_as_text() -> None:
    stream = io.StringIO()
    set_up_logging("info", "text", stream)
    logging.getLogger("trio-websocket").error("broken")
    [line] = stream.getvalue().splitlines()
    assert "broken" in line
    assert "trio-websocket" in line


def test_libraries_say_no_less_than_warnings_even_when_we_debug() -> None:
    stream = io.StringIO()
    set_up_logging("debug", "json", stream)
    logging.getLogger("trio-websocket").debug("every frame, with what it holds")
    logging.getLogger("trio-websocket").info("a connection")
    assert stream.getvalue() == ""


def test_setting_up_twice_does_not_double_the_lines() -> None:
    stream = io.StringIO()
    for _ in range(2):
        set_up_logging("info", "json", stream)
    structlog.get_logger().info("ours")
    logging.getLogger("lib").warning("theirs")
    assert [line["event"] for line in json_lines(stream)] == ["ours", "theirs"]


# Tracebacks.


def fail(key: str) -> None:
    local = [key, {"header": key}]
    raise ValueError(f"it broke with {len(local)} values")


@pytest.mark.parametrize("logger", ["structlog", "logging"])
@pytest.mark.parametrize("style", ["json", "text"])
def test_a_traceback_names_the_fault_and_its_place_but_no_values_of_variables(style: str, logger: str) -> None:
    stream = io.StringIO()
    set_up_logging("info", style, stream)
    log = structlog.get_logger() if logger == "structlog" else logging.getLogger("library")
    key = "sk-1234-secret"
    try:
        fail(key)
    except ValueError:
        log.exception("call failed")
    text = stream.getvalue()
    assert "ValueError: it broke with 2 values" in text
    assert "test_logs.py" in text
    assert "in fail" in text
    assert "sk-1234-secret" not in text
    if style == "json":
        [line] = json_lines(stream)
        assert line["event"] == "call failed"


@pytest.mark.parametrize("style", ["json", "text"])
def test_a_group_of_faults_is_written_with_each_of_them(style: str) -> None:
    stream = io.StringIO()
    set_up_logging("info", style, stream)
    try:
        raise ExceptionGroup("a nursery", [ValueError("first"), OSError("second")])
    except* Exception as group:
        structlog.get_logger().error("call failed", exc_info=group)
    assert "ValueError: first" in stream.getvalue()
    assert "OSError: second" in stream.getvalue()


@pytest.mark.parametrize("style", ["json", "text"])
@pytest.mark.parametrize("logger", ["structlog", "logging"])
def test_what_is_secret_is_starred_in_every_line_whoever_writes_it(logger: str, style: str) -> None:
    secret = 'sk-12"34\\secret'
    stream = io.StringIO()
    set_up_logging("info", style, stream, [secret, "short", "sk-12"])
    log = structlog.get_logger() if logger == "structlog" else logging.getLogger("library")
    log.warning("it said %s; a short word", secret)
    try:
        raise KeyError(secret, "tel:+491711234567")
    except KeyError:
        log.exception("call failed")
    text = stream.getvalue()
    assert "it said ***; a short word" in text
    assert "KeyError: ('***', 'tel:+***')" in text
    for form in ("sk-12", "secret", "171123"):
        assert form not in text.replace("what_is_secret", "").replace("KeyError(secret", "")


@pytest.mark.parametrize("stream", [io.StringIO, Terminal])
@pytest.mark.parametrize("style", ["json", "text"])
def test_what_a_stranger_wrote_is_text_for_every_terminal_whoever_logs_it(style: str, stream: Any) -> None:
    """Ours is cleaned where it comes in. A library, or the text of an exception, may quote anything."""
    out = stream()
    set_up_logging("info", style, out)
    log = structlog.get_logger("ours")
    odd = "\x1b[2J\u202e\u2028\x9b1m\x85\ufeff\x7f\x00\ud800"
    log.warning("odd", one=odd, within=[{"a": (odd,)}], **{"a b": odd})
    logging.getLogger("library").warning("it said %s", f"x\n2026-11-28 [error] forged {odd}")
    try:
        raise ValueError(f"words {odd}\nmore")
    except ValueError:
        log.exception("failed")
    log.warning("endless", text="x" * 1_000_000)
    written = out.getvalue()
    shown = re.sub(r"\x1b\[[0-9;]*m", "", written) if out.isatty() else written  # the renderer's own colours
    assert not [character for character in shown if not character.isprintable() and character != "\n"]
    assert not [line for line in shown.split("\n") if line.startswith("2026-11-28 [error] forged")]
    assert max(map(len, shown.split("\n"))) < 50_000
    if style == "json":
        first = json.loads(written.split("\n")[0])
        assert first["one"] == odd


@pytest.mark.parametrize("name", SPELLINGS)
@pytest.mark.parametrize("style", ["json", "text"])
def test_what_is_secret_is_starred_in_every_spelling(style: str, name: str) -> None:
    """A peer may say it in its own way: in a traceback, a refusal, the text of a library."""
    stream = io.StringIO()
    set_up_logging("info", style, stream, [ODD_KEY])
    spelled = SPELLINGS[name](ODD_KEY)
    structlog.get_logger().warning("refused", said=f"<{spelled}>")
    logging.getLogger("library").warning("it said %s", spelled)
    for line in stream.getvalue().splitlines():
        assert "***" in line
        assert spelled not in line
        assert spelled[6:-6] not in line
