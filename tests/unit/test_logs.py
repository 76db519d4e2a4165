"""Log lines: JSON for machines, key=value for people, those of libraries too, and nothing secret in a traceback."""

from __future__ import annotations

import io
import json
import logging
from typing import Any

import pytest
import structlog

from sts_trio.logs import set_up_logging

pytestmark = pytest.mark.usefixtures("restored_logging")


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


def test_every_line_has_what_is_bound_to_the_call() -> None:
    stream = io.StringIO()
    set_up_logging("info", "json", stream)
    with structlog.contextvars.bound_contextvars(call="c-1"):
        structlog.get_logger().info("one")
        logging.getLogger("hypercorn.error").warning("two")
    assert [line.get("call") for line in json_lines(stream)] == ["c-1", "c-1"]


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
