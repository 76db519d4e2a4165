"""The log never hurts a call: what cannot be written is dropped, counted and told of; nobody waits."""

from __future__ import annotations

import fcntl
import json
import logging
import os
import time
from contextlib import contextmanager
from pathlib import Path
from typing import TYPE_CHECKING, Any, TextIO

import pytest
import structlog

from sts_trio import logs
from sts_trio.logs import LogWriter, set_up_logging

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator

pytestmark = pytest.mark.usefixtures("restored_logging")
FULL = Path("/dev/full")
log = structlog.get_logger("sts_trio.test")


@contextmanager
def piped(encoding: str = "utf-8") -> Iterator[tuple[int, TextIO]]:
    """The reading end of a pipe, and its other end as a process has it for its stdout."""
    read, write = os.pipe()
    with os.fdopen(write, "w", encoding=encoding) as stream:
        try:
            yield read, stream
        finally:
            os.close(read)


def read_lines(descriptor: int) -> list[dict[str, Any]]:
    """All that there is to read."""
    os.set_blocking(descriptor, False)
    data = b""
    while True:
        try:
            part = os.read(descriptor, 2**20)
        except BlockingIOError:
            break
        if not part:
            break
        data += part
    return [json.loads(line) for line in data.splitlines()]


def until(true: Callable[[], object]) -> None:
    by = time.monotonic() + 5
    while not true():
        assert time.monotonic() < by
        time.sleep(0.005)


def test_lines_of_ours_and_of_libraries_are_written_in_order_and_flushed_at_the_end() -> None:
    with piped() as (read, stream):
        with LogWriter(stream) as writer:
            set_up_logging("info", "json", writer)
            for number in range(200):
                (log if number % 2 else logging.getLogger("library")).warning(f"line {number}")
        assert [line["event"] for line in read_lines(read)] == [f"line {number}" for number in range(200)]
        assert writer.dropped == 0


def test_a_reader_that_has_stopped_costs_lines_and_no_time(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(logs, "_MOST_WAITING", 100_000)
    with piped() as (read, stream), LogWriter(stream) as writer:
        fcntl.fcntl(read, fcntl.F_SETPIPE_SZ, 4096)
        set_up_logging("info", "json", writer)
        began = time.monotonic()
        for number in range(2000):
            log.warning("line", number=number)
        assert time.monotonic() - began < 2
        assert 500 < writer.dropped < 2000
        found: list[dict[str, Any]] = []

        def all_read() -> bool:
            found.extend(read_lines(read))
            return "lost" in found[-1]["event"]

        until(all_read)
        *before, told = found
        numbers = [line["number"] for line in before]
        assert len(numbers) == 2000 - writer.dropped
        assert numbers == sorted(numbers)
        assert numbers[:500] == list(range(500))  # the newest were dropped, but what the writer took made a little room
        assert (told["level"], told["lines"], told["logger"]) == ("warning", writer.dropped, "sts_trio.logs")
        log.warning("again")
        until(lambda: [line["event"] for line in read_lines(read)] == ["again"])  # and told once


@pytest.mark.parametrize("style", ["json", "text"])
def test_a_pipe_whose_reader_has_gone_and_a_full_disk_are_dropped_and_counted(style: str) -> None:
    read, write = os.pipe()
    os.close(read)
    for stream in (os.fdopen(write, "w"), FULL.open("w")):
        with stream:
            with LogWriter(stream) as writer:
                set_up_logging("info", style, writer)
                log.warning("hello")
                logging.getLogger("library").warning("hello")
            assert writer.dropped == 2


def test_a_disk_that_has_room_again_is_told_how_many_lines_are_missing() -> None:
    with piped() as (read, stream):
        with LogWriter(stream) as writer, FULL.open("w") as full:
            set_up_logging("info", "json", writer)
            kept = os.dup(stream.fileno())
            os.dup2(full.fileno(), stream.fileno())
            for _ in range(3):
                log.warning("lost")
            until(lambda: writer.dropped == 3)
            os.dup2(kept, stream.fileno())
            os.close(kept)
            log.warning("back")
        back, told = read_lines(read)
        assert (back["event"], told["lines"]) == ("back", 3)


def test_a_line_that_was_cut_off_does_not_spoil_the_next(monkeypatch: pytest.MonkeyPatch) -> None:
    write, failing = os.write, iter((3, OSError("full")))

    def half(descriptor: int, data: bytes) -> int:
        step = next(failing, None)
        if isinstance(step, OSError):
            raise step
        return write(descriptor, data if step is None else data[:step])

    with piped() as (read, stream):
        with LogWriter(stream) as writer:
            monkeypatch.setattr(os, "write", half)
            writer.write("abcdef\n")
            writer.write("whole\n")
        assert os.read(read, 1000).splitlines()[:2] == [b"abc", b"whole"]


def test_a_pipe_that_does_not_block_is_waited_for_by_the_thread_alone() -> None:
    with piped() as (read, stream):
        os.set_blocking(stream.fileno(), False)
        with LogWriter(stream) as writer:
            writer.write("x" * 200_000 + "\n")
            got = 0
            while got < 200_001:
                got += len(os.read(read, 2**16))
        assert writer.dropped == 0


def test_letters_that_the_file_cannot_hold_are_escaped_and_json_stays_json() -> None:
    with piped("ascii") as (read, stream):
        with LogWriter(stream) as writer:
            set_up_logging("info", "json", writer)
            log.warning("grüße", broken="\ud83d", smile="\U0001f600")
            writer.write("plain grüße\n")
        first, second = os.read(read, 10_000).splitlines()
        assert json.loads(first)["event"] == "grüße"
        assert json.loads(first)["smile"] == "\U0001f600"
        assert second == rb"plain gr\xfc\xdfe"


def test_the_end_does_not_wait_for_a_reader_that_has_stopped() -> None:
    with piped() as (_, stream):
        began = time.monotonic()
        with LogWriter(stream) as writer:
            writer.write("x" * 200_000)
        assert 0.9 < time.monotonic() - began < 3


def test_a_value_that_cannot_be_shown_hurts_nobody() -> None:
    class Odd:
        def __repr__(self) -> str:
            raise RuntimeError

    for style in ("json", "text"):
        with piped() as (read, stream):
            with LogWriter(stream) as writer:
                set_up_logging("info", style, writer)
                log.warning("hello", value=Odd())
                logging.getLogger("library").warning("%d", "no number")
            assert b"hello" in os.read(read, 10_000)
