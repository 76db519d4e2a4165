"""A process of the load, from inside: its plan comes as the first line of stdin, its news go to stdout."""

from __future__ import annotations

import os
import sys
from typing import TYPE_CHECKING

import trio

from sts_trio.lab.harness.load.plan import Trouble, decode_plan, encode
from sts_trio.lab.harness.load.process import LoadError

if TYPE_CHECKING:
    from collections.abc import Awaitable, Callable

    from sts_trio.lab.harness.load.plan import FromChild, Plan

    Tell = Callable[[FromChild], None]

_STDIN, _STDOUT = 0, 1
GLANCE_SECONDS = 0.5


def tell_parent(news: FromChild) -> None:
    """Write a line. It may block while the pipe is full, and the parent does nothing but read."""
    data = memoryview(encode(news) + b"\n")
    while data:
        data = data[os.write(_STDOUT, data) :]


async def parent_gone() -> None:
    """Wait until the parent wants an end of it: it closes our stdin, and so does its death."""
    async with trio.lowlevel.FdStream(os.dup(_STDIN)) as stdin:
        while await stdin.receive_some():
            pass


def main(run: Callable[[Plan, Tell, Callable[[], Awaitable[None]]], Awaitable[None]]) -> None:
    """Be a child that runs `run` with its plan, until its parent has had enough."""
    plan = decode_plan(sys.stdin.buffer.readline())
    try:
        trio.run(run, plan, tell_parent, parent_gone)
    except* BrokenPipeError:
        pass  # the parent has gone in mid-run: nobody wants to know any more
    except* (LoadError, OSError) as group:
        first: BaseException = group
        while isinstance(first, BaseExceptionGroup):
            first = first.exceptions[0]
        tell_parent(Trouble(str(first)))
