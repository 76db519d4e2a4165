"""A process of the load, from both ends: the parent starts and reads it; the child gets its plan and reports.

The plan is the first line of the child's stdin; its reports are lines on its stdout. Closing stdin ends it.
"""

from __future__ import annotations

import os
import subprocess
import sys
from collections.abc import Callable
from contextlib import asynccontextmanager
from typing import TYPE_CHECKING, TypeAlias

import msgspec
import trio

from sts_trio.errors import StsError
from sts_trio.lab.load.plan import FromChild, Trouble, decode_from_child, decode_plan, encode

if TYPE_CHECKING:
    from collections.abc import AsyncIterator, Awaitable

    from sts_trio.lab.load.plan import Plan

Tell: TypeAlias = Callable[[FromChild], None]
"""Sends a report to the parent."""
GLANCE_SECONDS = 0.5
_STDIN, _STDOUT = 0, 1
_END_SECONDS = 5.0
_LONGEST_NEWS = 2**24  # the figures of thousands of calls


class LoadError(StsError):
    """The load could not be run. One line for a person."""


class Child:
    """A running process of the load, as its parent sees it."""

    def __init__(self, process: trio.Process, name: str) -> None:
        if process.stdin is None or process.stdout is None:
            raise LoadError(f"the load's {name} were started without pipes")
        self.pid = process.pid
        self._name = name
        self._stdin = process.stdin
        self._stdout = process.stdout
        self._read = bytearray()

    async def news(self) -> FromChild:
        """Wait for the next line.

        Raises:
            LoadError: the process has ended, or says that it cannot do its part.
        """
        while (end := self._read.find(b"\n")) < 0:
            data = await self._stdout.receive_some()
            if not data or len(self._read) > _LONGEST_NEWS:
                raise LoadError(f"the load's {self._name} ended before their time")
            self._read += data
        line = bytes(self._read[:end])
        del self._read[: end + 1]
        try:
            heard: FromChild = decode_from_child(line)
        except msgspec.DecodeError as exc:
            raise LoadError(f"the load's {self._name} sent what is no news: {exc}") from exc
        if isinstance(heard, Trouble):
            raise LoadError(heard.message)
        return heard

    async def tell_to_end(self) -> None:
        """Have it finish; its last news is what it has measured."""
        await self._stdin.aclose()


@asynccontextmanager
async def open_child(name: str, plan: Plan) -> AsyncIterator[Child]:
    """Run ``agents`` or ``callers`` as a process as long as the context lasts."""
    command = [sys.executable, "-m", f"sts_trio.lab.load.{name}"]
    # Not in the terminal's own group: Ctrl-C is for the parent, who then ends the others in their order.
    process = await trio.lowlevel.open_process(
        command, stdin=subprocess.PIPE, stdout=subprocess.PIPE, start_new_session=True
    )
    try:
        child = Child(process, name)
        if process.stdin is not None:
            await process.stdin.send_all(encode(plan) + b"\n")
        yield child
    finally:
        with trio.CancelScope(shield=True):
            if process.stdin is not None:
                await process.stdin.aclose()
            with trio.move_on_after(_END_SECONDS):
                await process.wait()
            if process.returncode is None:
                process.kill()
                await process.wait()
            if process.stdout is not None:
                await process.stdout.aclose()


# The child's own end.


def report(news: FromChild) -> None:
    """Write a line. It may block while the pipe is full, and the parent does nothing but read."""
    data = memoryview(encode(news) + b"\n")
    while data:
        data = data[os.write(_STDOUT, data) :]


async def parent_closed() -> None:
    """Wait until the parent closes our stdin, to end the run, or because it died."""
    async with trio.lowlevel.FdStream(os.dup(_STDIN)) as stdin:
        while await stdin.receive_some():
            pass


def run_child(run: Callable[[Plan, Tell, Callable[[], Awaitable[None]]], Awaitable[None]]) -> None:
    """Run a child process: read the plan, run `run` until it is over or stdin closes, report what fails."""
    plan = decode_plan(sys.stdin.buffer.readline())
    try:
        trio.run(run, plan, report, parent_closed)
    except* BrokenPipeError:
        pass  # the parent has gone in mid-run: there is no one to report to
    except* (LoadError, OSError) as group:
        first: BaseException = group
        while isinstance(first, BaseExceptionGroup):
            first = first.exceptions[0]
        report(Trouble(str(first)))
